"""DSSE: signatures over the exact bytes of a document, n of m Ed25519 keys.

Source: DSSE 1.0 (Dead Simple Signing Envelope). Stricter than the standard asks: no unknown
fields, standard padded base64 only, ``keyid`` mandatory and equal to the hex SHA-256 of the raw
public key, and one signature that is unknown or does not verify refuses the whole message: no
part of a message can be altered without its being refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.market import canonical, strict_json
from gateway.market.strict_json import Findings, quoted
from gateway.model.reason import Reason, ReasonCode

PAYLOAD_TYPE_SCHEDULE = "application/vnd.sop.schedule+json"
PAYLOAD_TYPE_LIMITS = "application/vnd.sop.limits+json"
PAYLOAD_TYPE_ACKNOWLEDGEMENT = "application/vnd.sop.acknowledgement+json"
PAYLOAD_TYPE_DELIVERY = "application/vnd.sop.delivery+json"

SIZE_MAX = 16 * 1024  # of a whole message, looked at before anything else
SIGNATURES_MAX = 16  # more co-signers than any market names; bounds the verification work
_FIELDS = ("payload", "payloadType", "signatures")


@dataclass(frozen=True, slots=True)
class Opened:
    """A body whose signatures count, with the key ids of those who signed."""

    body: bytes
    keyids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Signature:
    keyid: str
    sig: bytes


def pae(payload_type: str, body: bytes) -> bytes:
    """Return the bytes that are signed: ``DSSEv1 len type len body``."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def keyid(public_raw: bytes) -> str:
    """Name a key: hex SHA-256 of its 32 raw bytes."""
    return hashlib.sha256(public_raw).hexdigest()


def sign(payload_type: str, body: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Return a signed message: ``body`` with one signature a key, as canonical JSON."""
    message = pae(payload_type, body)
    signatures = [
        {
            "keyid": keyid(key.public_key().public_bytes_raw()),
            "sig": base64.b64encode(key.sign(message)).decode(),
        }
        for key in keys
    ]
    return canonical.encode(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(body).decode(),
            "signatures": signatures,
        }
    )


def add_signature(raw: bytes, key: Ed25519PrivateKey) -> bytes | list[Reason]:
    """Return the message with one more co-signature; the reasons when it is not a DSSE message."""
    findings = Findings()
    parts = _parts(raw, findings)
    if parts is None or findings.reasons:
        return findings.reasons
    payload_type, body, signatures = parts
    mine = keyid(key.public_key().public_bytes_raw())
    kept = [s for s in signatures if s.keyid != mine]
    kept.append(_Signature(mine, key.sign(pae(payload_type, body))))
    return canonical.encode(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(body).decode(),
            "signatures": [
                {"keyid": s.keyid, "sig": base64.b64encode(s.sig).decode()} for s in kept
            ],
        }
    )


def open_envelope(
    raw: bytes, *, payload_type: str, signers: Mapping[str, bytes], required: int
) -> Opened | list[Reason]:
    """Return the signed body, or every reason why it does not count.

    Args:
        raw: the message as received.
        payload_type: the only type accepted here.
        signers: key id to raw public key, from the site file.
        required: how many distinct known signers must have signed.
    """
    return examine(raw, payload_type=payload_type, signers=signers, required=required)[0]


def examine(
    raw: bytes, *, payload_type: str, signers: Mapping[str, bytes], required: int
) -> tuple[Opened | list[Reason], bytes | None]:
    """Like ``open_envelope``, and give the body even where it does not count.

    So a refusal can name what is wrong inside as well.
    """
    assert required >= 1, "a message without any signature never counts"
    findings = Findings()
    parts = _parts(raw, findings)
    if parts is None:
        return findings.reasons, None
    found_type, body, signatures = parts
    if found_type != payload_type:
        findings.add(ReasonCode.PAYLOAD_TYPE, f"{quoted(found_type)} instead of {payload_type}")
    valid = _verified(pae(found_type, body), signatures, signers, findings)
    if signatures and len(valid) < required:
        findings.add(ReasonCode.SIGNERS_TOO_FEW, f"{len(valid)} of {required}")
    return findings.reasons or Opened(body, tuple(valid)), body


def faults(raw: bytes) -> list[Reason]:
    """Return what is wrong with the form of a message, signatures aside."""
    findings = Findings()
    _parts(raw, findings)
    return findings.reasons


def peek(raw: bytes) -> bytes | None:
    """Return the body of a message nobody has verified, to name it in a refusal; else None."""
    parts = _parts(raw, Findings())
    return None if parts is None else parts[1]


def _verified(
    message: bytes,
    signatures: Sequence[_Signature],
    signers: Mapping[str, bytes],
    findings: Findings,
) -> list[str]:
    valid: list[str] = []
    for signature in signatures:
        public = signers.get(signature.keyid)
        if public is None:
            # Also beside enough known ones: otherwise a message could be altered and still count.
            findings.add(ReasonCode.SIGNER_UNKNOWN, f"key id {quoted(signature.keyid[:16])}")
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature.sig, message)
        except InvalidSignature:
            findings.add(ReasonCode.SIGNATURE, f"does not verify under {signature.keyid[:16]}…")
        else:
            valid.append(signature.keyid)
    return valid


def _parts(raw: bytes, findings: Findings) -> tuple[str, bytes, list[_Signature]] | None:
    """Take a message apart; None when there is not enough of it to go on."""
    if not raw:
        findings.add(ReasonCode.EMPTY, "no bytes at all")
        return None
    if len(raw) > SIZE_MAX:
        findings.add(ReasonCode.OVERSIZED, f"{len(raw)} bytes, at most {SIZE_MAX}")
        return None
    value = strict_json.parse(raw, findings)
    if value is None:
        return None
    if "payload" not in value and "payloadType" not in value:
        findings.add(ReasonCode.UNSIGNED, "not a DSSE message")
        return None
    _only(value, _FIELDS, "", findings)
    payload_type = value.get("payloadType")
    # Also because half a character has no bytes that could have been signed.
    if not isinstance(payload_type, str) or not payload_type.isascii():
        findings.add(ReasonCode.FORM, "/payloadType: not plain text")
        return None
    body = _base64(value.get("payload"), "/payload", findings)
    signatures = _signatures(value.get("signatures"), findings)
    return None if body is None else (payload_type, body, signatures)


def _signatures(value: object, findings: Findings) -> list[_Signature]:
    if not isinstance(value, list):
        findings.add(ReasonCode.FORM, "/signatures: not an array")
        return []
    if not value:
        findings.add(ReasonCode.UNSIGNED, "no signature")
    if len(value) > SIGNATURES_MAX:
        findings.add(ReasonCode.OVERSIZED, f"{len(value)} signatures, at most {SIGNATURES_MAX}")
        return []
    found: dict[str, _Signature] = {}
    for index, item in enumerate(value):
        place = f"/signatures/{index}"
        if not isinstance(item, dict):
            findings.add(ReasonCode.FORM, f"{place}: not an object")
            continue
        _only(item, ("keyid", "sig"), place, findings)
        sig = _base64(item.get("sig"), f"{place}/sig", findings)
        name = item.get("keyid")
        if not isinstance(name, str):
            findings.add(ReasonCode.FORM, f"{place}/keyid: not text")
        elif name in found:
            findings.add(ReasonCode.FORM, f"{place}: a second signature of one key")
        elif sig is not None:
            found[name] = _Signature(name, sig)
    return list(found.values())


def _only(value: dict[str, Any], fields: Sequence[str], place: str, findings: Findings) -> None:
    for name in fields:
        if name not in value:
            findings.add(ReasonCode.MISSING_FIELD, f"{place}/{name}")
    for name in value:
        if name not in fields:
            findings.add(ReasonCode.UNKNOWN_FIELD, f"{place}/{quoted(name)}")


def _base64(value: object, place: str, findings: Findings) -> bytes | None:
    """Decode standard base64 of which there is exactly one spelling."""
    if isinstance(value, str) and value.isascii():
        try:
            decoded = base64.b64decode(value, validate=True)
        except binascii.Error:
            pass
        else:
            if base64.b64encode(decoded).decode() == value:
                return decoded
    findings.add(ReasonCode.FORM, f"{place}: not standard padded base64")
    return None
