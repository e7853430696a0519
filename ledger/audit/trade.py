"""The signed market message behind a trade: whose signatures stand under it, what it contracts.

Reads only what evidence needs; whether a message is admissible was the gateway's business.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.audit.delivery import EntryError, instant_ms
from ledger.log.canonical import INTEGER_MAX

PAYLOAD_TYPE = "application/vnd.sop.schedule+json"
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


def contracted(body: bytes, trade_id: str) -> dict[tuple[int, int], int]:
    """Energy in Wh by interval (start and end in ms) that a document contracts for a trade."""
    try:
        root = strict_json(body)["Schedule_MarketDocument"]
        series = root["TimeSeries"]
        series = series if isinstance(series, list) else [series]
        found: dict[tuple[int, int], int] = {}
        for one in series:
            if one["marketAgreement.mRID"] != trade_id:
                continue
            periods = one["Period"]
            for period in periods if isinstance(periods, list) else [periods]:
                found.update(period_energies(period))
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise EntryError(f"not a schedule document: {error}") from None
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
