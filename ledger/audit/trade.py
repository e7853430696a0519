"""The signed market message behind a trade: whose signatures stand under it, what it contracts.

Reads only what evidence needs; whether a message is admissible was the gateway's business.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.audit.delivery import EntryError, bounds_ms, instant_ms
from ledger.log.canonical import INTEGER_MAX

PAYLOAD_TYPE = "application/vnd.sop.schedule+json"
DOCUMENT_ERRORS = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError)
"""What reading a document raises where it is none."""

RESOLUTIONS_MS = {"PT1M": 60_000, "PT5M": 300_000, "PT15M": 900_000}


def strict_json(data: bytes) -> Any:
    """Parse JSON without floats, constants or repeated keys."""
    try:
        found = json.loads(
            data.decode(),
            object_pairs_hook=pairs,
            parse_float=refuse_number,
            parse_constant=refuse_number,
        )
        json.dumps(found, ensure_ascii=False).encode()  # half a character has no bytes
    except (ValueError, RecursionError) as error:
        raise EntryError(f"not JSON: {error!r}") from None
    return found


def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object, refusing a key that stands twice."""
    found = dict(items)
    if len(found) != len(items):
        raise EntryError("a key stands twice in one object")
    return found


def refuse_number(text: str) -> NoReturn:
    """Refuse a number that is no integer."""
    raise EntryError(f"number {text} is no integer")


def base64_bytes(text: object) -> bytes:
    """Decode standard base64."""
    try:
        return b64decode(str(text), validate=True)
    except (Base64Error, ValueError):
        raise EntryError("not base64") from None


def signers_of(
    message: Mapping[str, Any], signers: Sequence[Mapping[str, Any]]
) -> tuple[bytes, list[str]]:
    """The signed body and the names of the known signers whose signature verifies.

    A signature of a known key that does not verify condemns the message.
    """
    try:
        kind, body = str(message["payloadType"]), base64_bytes(message["payload"])
        signatures = [(str(s["keyid"]), base64_bytes(s["sig"])) for s in message["signatures"]]
        keys = {sha256(k).hexdigest(): (str(s["name"]), k) for s, k in raw_keys(signers)}
    except (KeyError, TypeError) as error:
        raise EntryError(f"not a DSSE message: {error}") from None
    if kind != PAYLOAD_TYPE:
        raise EntryError(f"payload type {kind}")
    head = kind.encode()
    signed = b"DSSEv1 %d %s %d %s" % (len(head), head, len(body), body)
    names: list[str] = []
    for keyid, signature in signatures:
        if keyid not in keys:
            continue
        name, public = keys[keyid]
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
        except (InvalidSignature, ValueError):
            raise EntryError(f"signature of {name} does not verify") from None
        if name not in names:
            names.append(name)
    return body, names


def raw_keys(signers: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], bytes]]:
    """Signers with their raw public keys."""
    return [(signer, base64_bytes(signer["key"])) for signer in signers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a trade is about: where, between which regions, in which revision, and how much.

    ``energies`` are in Wh by interval (start and end in ms).
    """

    site: str
    sop: str
    revision_number: int
    out_domain: str
    in_domain: str
    energies: Mapping[tuple[int, int], int]


def contracted(body: bytes, trade_id: str) -> dict[tuple[int, int], int]:
    """Energy in Wh by interval (start and end in ms) that a document contracts for a trade."""
    try:
        return energies_of(series_of(document(body), trade_id))
    except DOCUMENT_ERRORS as error:
        raise EntryError(f"not a schedule document: {error}") from None


def signed_terms(body: bytes, trade_id: str) -> Terms:
    """The terms that a document signs for a trade."""
    try:
        root = document(body)
        (one,) = series_of(root, trade_id)
        return Terms(
            site=root["domain.mRID"]["value"],
            sop=one["connectingLine_RegisteredResource.mRID"]["value"],
            revision_number=int(str(root["revisionNumber"])),
            out_domain=one["out_Domain.mRID"]["value"],
            in_domain=one["in_Domain.mRID"]["value"],
            energies=energies_of([one]),
        )
    except DOCUMENT_ERRORS as error:
        raise EntryError(f"not a document of one trade {trade_id}: {error!r}") from None


def accepted_terms(accepted: Mapping[str, Any], config: Mapping[str, Any]) -> Terms:
    """The terms that an acceptance states, its terminals by the regions they stand for.

    ``config`` is the configuration under which the gateway accepted.
    """
    domains = {t["id"]: t["domain"] for t in config["terminals"]}
    return Terms(
        site=config["site"],
        sop=config["sop"],
        revision_number=accepted["revision"],
        out_domain=domains.get(accepted["out_terminal"], ""),
        in_domain=domains.get(accepted["in_terminal"], ""),
        energies={bounds_ms(p["interval"]): p["energy_wh"] for p in accepted["positions"]},
    )


def differing(signed: Terms, accepted: Terms) -> str | None:
    """What was accepted otherwise than it was signed, in words; None when nothing was."""
    for what in ("site", "sop", "revision_number", "out_domain", "in_domain"):
        ours, theirs = getattr(accepted, what), getattr(signed, what)
        if ours != theirs:
            return f"{what} {ours!r} was accepted, {theirs!r} is signed"
    same = accepted.energies == signed.energies
    return None if same else "the accepted energies are not those of the message"


def document(body: bytes) -> Mapping[str, Any]:
    """The document in a signed body."""
    root: Mapping[str, Any] = strict_json(body)["Schedule_MarketDocument"]
    return root


def series_of(root: Mapping[str, Any], trade_id: str) -> list[Mapping[str, Any]]:
    """The series of a document that are about a trade."""
    series = root["TimeSeries"]
    every = series if isinstance(series, list) else [series]
    return [one for one in every if one["marketAgreement.mRID"] == trade_id]


def energies_of(series: Iterable[Mapping[str, Any]]) -> dict[tuple[int, int], int]:
    """Energies of all periods of some series."""
    found: dict[tuple[int, int], int] = {}
    for one in series:
        periods = one["Period"]
        for period in periods if isinstance(periods, list) else [periods]:
            found.update(period_energies(period))
    return found


def period_energies(period: Mapping[str, Any]) -> dict[tuple[int, int], int]:
    """Energies of one period's points."""
    step = RESOLUTIONS_MS[period["resolution"]]
    start = instant_ms(period["timeInterval"]["start"])
    found = {}
    for point in period["Point"]:
        begin = start + (int(point["position"]) - 1) * step
        energy = Decimal(str(point["quantity"])) * 1000 * step / 3_600_000
        if not abs(energy) <= INTEGER_MAX:  # before its million digits are written out
            raise EntryError(f"{energy} Wh is no energy")
        if energy != int(energy):
            raise EntryError(f"{energy} Wh is not whole")
        found[begin, begin + step] = int(energy)
    return found
