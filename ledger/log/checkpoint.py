"""C2SP checkpoints: origin, tree size and root as a signed note, and how signatures verify.

A checkpoint is a promise: a log never signs two that contradict each other, and none leaves the
process before the entries under it are durable.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from ledger.log import note
from ledger.log.merkle import HASH_BYTES
from ledger.log.note import Key, Note, NoteError, Signature

SIZE_MAX = 1 << 62
"""No ledger grows this long; larger numbers are nonsense from outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a signed tree head says."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def text(self) -> bytes:
        """The bytes that are signed."""
        lines = [self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions]
        return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """A checkpoint and the note it came in."""

    checkpoint: Checkpoint
    note: Note


def parse_text(text: bytes) -> Checkpoint:
    """Parse the text of a checkpoint; raise NoteError when it is not one."""
    note.check_text(text)
    lines = text.decode().split("\n")
    if len(lines) < 4 or lines[-1] != "":
        raise NoteError("a checkpoint has at least three lines")
    origin, size, root, *extensions = lines[:-1]
    if not origin or not origin.isprintable() or any(not line for line in extensions):
        raise NoteError("checkpoint has an empty or unprintable line")
    if not (size.isascii() and size.isdigit()) or (size != "0" and size[0] == "0"):
        raise NoteError("checkpoint size is not a plain decimal")
    if len(size) > len(str(SIZE_MAX)) or int(size) > SIZE_MAX:
        raise NoteError("checkpoint size is absurd")
    root_hash = note.strict_base64(root)
    if len(root_hash) != HASH_BYTES:
        raise NoteError("checkpoint root does not have 32 bytes")
    return Checkpoint(origin=origin, size=int(size), root=root_hash, extensions=tuple(extensions))


def parse(data: bytes) -> SignedCheckpoint:
    """Parse a signed checkpoint; verifies no signature."""
    parsed = note.parse(data)
    return SignedCheckpoint(checkpoint=parse_text(parsed.text), note=parsed)


def signed_message(*, key: Key, text: bytes, blob: bytes) -> tuple[bytes, bytes]:
    """What the key signed, and the bare signature, for a signature blob over ``text``."""
    if key.algorithm_code == note.ED25519:
        return text, blob
    stamp, signature = blob[:8], blob[8:]
    time_s = int.from_bytes(stamp, "big")
    if key.algorithm_code == note.COSIGNATURE:
        return f"cosignature/v1\ntime {time_s}\n".encode() + text, signature
    return subtree_message(key.name, time_s, parse_text(text)), signature


def subtree_message(cosigner: str, time_s: int, checkpoint: Checkpoint) -> bytes:
    """The bytes an ML-DSA-44 cosigner signs for a whole tree."""
    name, origin = cosigner.encode(), checkpoint.origin.encode()
    if not 0 < len(name) < 256 or not 0 < len(origin) < 256:
        raise NoteError("cosigner or origin is too long")
    return b"".join(
        (
            b"subtree/v1\n\0",
            bytes([len(name)]),
            name,
            time_s.to_bytes(8, "big"),
            bytes([len(origin)]),
            origin,
            (0).to_bytes(8, "big"),
            checkpoint.size.to_bytes(8, "big"),
            checkpoint.root,
        )
    )


def check_signature(key: Key, text: bytes, signature: Signature) -> None:
    """Raise NoteError unless the signature is this key's over the text."""
    if len(signature.blob) != note.SIGNATURE_BYTES[key.algorithm_code]:
        raise NoteError(f"signature of {key.name} has the wrong length")
    message, bare = signed_message(key=key, text=text, blob=signature.blob)
    try:
        if key.algorithm_code == note.MLDSA_COSIGNATURE:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(bare, message)
        else:
            Ed25519PublicKey.from_public_bytes(key.public).verify(bare, message)
    except (InvalidSignature, ValueError):
        raise NoteError(f"signature of {key.name} does not verify") from None


def verified_keys(signed: Note, keys: Iterable[Key]) -> list[Key]:
    """The keys whose signature stands under the note and verifies.

    A line that names a known key and does not verify condemns the whole note; lines of unknown
    keys are passed over, as the signed-note rules want it.
    """
    known = {(key.name, key.key_hash): key for key in keys}
    good: list[Key] = []
    for signature in signed.signatures:
        key = known.get((signature.name, signature.key_hash))
        if key is None:
            continue
        check_signature(key, signed.text, signature)
        if key not in good:
            good.append(key)
    return good


def cosignature_time_s(key: Key, signature: Signature) -> int:
    """When a cosigner says it signed, in unix seconds; 0 for keys that state no time."""
    if key.algorithm_code == note.ED25519:
        return 0
    return int.from_bytes(signature.blob[:8], "big")


def open_checkpoint(data: bytes, key: Key) -> SignedCheckpoint:
    """Parse a checkpoint that must carry a valid signature of ``key``."""
    signed = parse(data)
    if not verified_keys(signed.note, [key]):
        raise NoteError(f"checkpoint is not signed by {key.name}+{key.key_hash.hex()}")
    return signed
