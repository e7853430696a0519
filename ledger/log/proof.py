"""C2SP tlog-proof files: an index, an inclusion proof and the checkpoint it leads to."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.log import checkpoint, note
from ledger.log.checkpoint import SignedCheckpoint
from ledger.log.merkle import HASH_BYTES, ProofError, leaf_hash, verify_inclusion
from ledger.log.note import Key, NoteError

MAGIC = "c2sp.org/tlog-proof@v1"
PROOF_BYTES_MAX = 2 << 20
HASHES_MAX = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """One proof; ``extra`` is data for the application, None when the line is absent."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The file's bytes."""
        lines = [MAGIC]
        if self.extra is not None:
            lines.append(f"extra {b64encode(self.extra).decode()}")
        lines.append(f"index {self.index}")
        lines.extend(b64encode(h).decode() for h in self.hashes)
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint


def parse(data: bytes) -> TlogProof:
    """Parse a proof file; raise NoteError when it is not one. Verifies nothing."""
    if len(data) > PROOF_BYTES_MAX:
        raise NoteError("proof is too large")
    head, found, signed = data.partition(b"\n\n")
    if not found:
        raise NoteError("proof has no checkpoint")
    try:
        lines = head.decode().split("\n")
    except UnicodeDecodeError:
        raise NoteError("proof is not UTF-8") from None
    if lines[0] != MAGIC or len(lines) < 2:
        raise NoteError("not a tlog-proof")
    extra = None
    if lines[1].startswith("extra "):
        extra = note.strict_base64(lines.pop(1).removeprefix("extra "))
    if len(lines) < 2 or not lines[1].startswith("index "):
        raise NoteError("proof has no index")
    digits = lines[1].removeprefix("index ")
    if (
        not (digits.isascii() and digits.isdigit())
        or len(digits) > 19
        or (digits[0] == "0" and digits != "0")
    ):
        raise NoteError("proof index is not a plain decimal")
    hashes = tuple(note.strict_base64(line) for line in lines[2:])
    if len(hashes) > HASHES_MAX or any(len(h) != HASH_BYTES for h in hashes):
        raise NoteError("proof hashes have the wrong length or number")
    checkpoint.parse(signed)
    return TlogProof(index=int(digits), hashes=hashes, checkpoint=signed, extra=extra)


def verify(proof: TlogProof, leaf: bytes, keys: Sequence[Key]) -> SignedCheckpoint:
    """Check that ``leaf`` stands in the tree of the proof's checkpoint, signed by ``keys[0]``.

    Raises NoteError or ProofError; further keys are those of witnesses.
    """
    signed = checkpoint.parse(proof.checkpoint)
    if keys[0] not in checkpoint.verified_keys(signed.note, keys):
        raise NoteError(f"checkpoint is not signed by {keys[0].name}")
    if signed.checkpoint.origin != keys[0].name:
        raise ProofError(f"checkpoint is of {signed.checkpoint.origin}")
    verify_inclusion(
        index=proof.index, size=signed.checkpoint.size, leaf=leaf_hash(leaf),
        proof=proof.hashes, root=signed.checkpoint.root,
    )  # fmt: skip
    return signed
