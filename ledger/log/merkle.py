"""RFC 6962 Merkle tree hashing over SHA-256: roots, proofs and their verification.

Pure functions of hashes. This file knows neither files nor signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

RangeRoot = Callable[[int, int], bytes]
"""Gives the root of the leaves ``[start, end)`` of a tree, for whatever keeps the hashes."""


class ProofError(Exception):
    """A proof does not lead to the root it claims."""


def leaf_hash(data: bytes) -> bytes:
    """Hash one leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: enough to append and to compute the root.

    Holds one hash for every bit set in ``size``, largest subtree first.
    """

    __slots__ = ("_stack", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._stack = list(hashes)
        if len(self._stack) != size.bit_count():
            raise ValueError(f"a tree of {size} has {size.bit_count()} edge hashes")
        if any(len(h) != HASH_BYTES for h in self._stack):
            raise ValueError("edge hashes have 32 bytes")

    def push(self, hashed_leaf: bytes) -> None:
        """Append the hash of one leaf."""
        stack, n, h = self._stack, self.size, hashed_leaf
        while n & 1:
            h = sha256(b"\x01" + stack.pop() + h).digest()
            n >>= 1
        stack.append(h)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append many leaves, given as data."""
        self.extend_hashed([sha256(b"\x00" + data).digest() for data in leaves])

    def extend_hashed(self, hashed_leaves: Iterable[bytes]) -> None:
        """Append many leaves, given as leaf hashes."""
        row = list(hashed_leaves)
        stack, n, edge = self._stack, self.size, []
        self.size += len(row)
        while row:  # a row of the tree at a time, from the leaves up
            if n & 1:
                row.insert(0, stack.pop())
            if len(row) & 1:
                edge.append(row.pop())
            pairs = iter(row)
            row = [sha256(b"\x01" + a + b).digest() for a, b in zip(pairs, pairs, strict=True)]
            n >>= 1
        edge.reverse()
        stack += edge

    def root(self) -> bytes:
        """Root hash of the whole tree."""
        if not self._stack:
            return EMPTY_ROOT
        h = self._stack[-1]
        for left in reversed(self._stack[:-1]):
            h = sha256(b"\x01" + left + h).digest()
        return h

    def hashes(self) -> tuple[bytes, ...]:
        """The edge hashes, largest subtree first."""
        return tuple(self._stack)

    def copy(self) -> Frontier:
        """An independent copy."""
        other = Frontier.__new__(Frontier)
        other.size, other._stack = self.size, self._stack.copy()  # noqa: SLF001 - its own kind
        return other


def split(size: int) -> int:
    """Largest power of two below ``size`` (``size`` > 1)."""
    return 1 << ((size - 1).bit_length() - 1)


def range_root(hashes: Sequence[bytes], start: int, end: int) -> bytes:
    """Root of the leaf hashes ``hashes[start:end]`` as a tree of their own."""
    frontier = Frontier()
    for h in hashes[start:end]:
        frontier.push(h)
    return frontier.root()


def inclusion_proof(index: int, size: int, root_of: RangeRoot) -> list[bytes]:
    """Audit path of leaf ``index`` in the tree of ``size`` leaves (RFC 6962 §2.1.1)."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + split(end - start)
        if index < middle:
            path.append(root_of(middle, end))
            end = middle
        else:
            path.append(root_of(start, middle))
            start = middle
    path.reverse()
    return path


def consistency_proof(old_size: int, size: int, root_of: RangeRoot) -> list[bytes]:
    """Proof that the tree of ``old_size`` is a prefix of the one of ``size`` (§2.1.2)."""
    if not 0 < old_size <= size:
        raise ProofError(f"no consistency proof from {old_size} to {size}")
    path: list[bytes] = []
    start, end = 0, size
    whole = True
    while old_size != end:
        middle = start + split(end - start)
        if old_size <= middle:
            path.append(root_of(middle, end))
            end = middle
        else:
            path.append(root_of(start, middle))
            start = middle
            whole = False
    if not whole:
        path.append(root_of(start, end))
    path.reverse()
    return path


def root_from_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Root that an inclusion proof leads to (RFC 9162 §2.1.3.2); ``leaf`` is the leaf's hash."""
    if not 0 <= index < size:
        raise ProofError(f"no leaf {index} in a tree of {size}")
    check_hashes([leaf, *proof])
    fn, sn, r = index, size - 1, leaf
    for p in proof:
        if sn == 0:
            raise ProofError("inclusion proof is too long")
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            r = node_hash(r, p)
        fn >>= 1
        sn >>= 1
    if sn:
        raise ProofError("inclusion proof is too short")
    return r


def verify_inclusion(
    *, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise ProofError unless the leaf hash stands at ``index`` under ``root``."""
    if root_from_inclusion(index=index, size=size, leaf=leaf, proof=proof) != root:
        raise ProofError(f"inclusion proof of leaf {index} does not lead to the root of {size}")


def verify_consistency(
    *, old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ProofError unless the old tree is a prefix of the new one (RFC 9162 §2.1.4.2).

    A proof from the empty tree says nothing and is refused here; a witness that has seen
    nothing yet decides that case itself.
    """
    if not 0 < old_size <= size:
        raise ProofError(f"no consistency proof from {old_size} to {size}")
    check_hashes([old_root, root, *proof])
    if old_size == size:
        if proof:
            raise ProofError("a proof between equal sizes is empty")
        if old_root != root:
            raise ProofError(f"two different roots for size {size}")
        return
    path = list(proof)
    if not old_size & (old_size - 1):
        path.insert(0, old_root)
    if not path:
        raise ProofError("consistency proof is too short")
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            raise ProofError("consistency proof is too long")
        if fn & 1 or fn == sn:
            fr = node_hash(c, fr)
            sr = node_hash(c, sr)
            while fn and not fn & 1:
                fn >>= 1
                sn >>= 1
        else:
            sr = node_hash(sr, c)
        fn >>= 1
        sn >>= 1
    if sn or fr != old_root or sr != root:
        raise ProofError(f"the tree of {size} does not continue the tree of {old_size}")


def check_hashes(hashes: Iterable[bytes]) -> None:
    """Raise ProofError unless every hash has 32 bytes."""
    if any(len(h) != HASH_BYTES for h in hashes):
        raise ProofError("a hash does not have 32 bytes")
