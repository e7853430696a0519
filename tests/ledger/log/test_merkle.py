"""The tree against published vectors, against another implementation, and its properties."""

from base64 import b64decode
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import merkle
from ledger.log.merkle import Frontier, ProofError, leaf_hash

# Vector A: the inputs and roots of the public RFC 6962 reference tree.
INPUTS = [
    bytes.fromhex(h)
    for h in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

# Vector B: published proofs (transparency-dev merkle testdata, the cases without a fault).
INCLUSIONS = [
    (
        0,
        8,
        "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=",
        [
            "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=",
            "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
            "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=",
        ],
    ),
    (
        5,
        8,
        "QnGia+DYqE8L1UyMMC58s6O10fpngKQLzOKHNHfatlg=",
        [
            "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
            "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
            "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
        ],
    ),
    (
        2,
        3,
        "ApjRIpBtz8EIkstTpzmS/FufST6kybrbJ7eRtBJ6f+c=",
        ["+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU="],
    ),
    (
        1,
        5,
        "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=",
        [
            "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=",
            "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
            "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
        ],
    ),
]
CONSISTENCIES = [
    (1, 8, ["lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=", "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=", "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ="]),
    (6, 8, ["DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=", "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=", "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc="]),
    (2, 5, ["Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=", "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms="]),
    (6, 7, ["DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=", "sIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8=", "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc="]),
]  # fmt: skip

# What the published negative cases put in: a hash of nothing, a leaf and a root of a wrong length.
STRAY = b64decode("q6yroAAAAAAAAAAAAAAAAAAAAAAAAAAAAGAGHgASNFY=")
WRONG_LEAF = b"WrongLeaf"
WRONG_ROOT = b"don't care 2"

leaves = st.lists(st.binary(max_size=40), min_size=1, max_size=80)


def root(data: list[bytes]) -> bytes:
    frontier = Frontier()
    frontier.extend(data)
    return frontier.root()


def ranges(data: list[bytes]) -> merkle.RangeRoot:
    return partial(merkle.range_root, [leaf_hash(d) for d in data])


@pytest.mark.parametrize("size", range(9))
def test_vector_a_roots(size: int) -> None:
    assert root(INPUTS[:size]).hex() == ROOTS[size]


def test_vector_a_hashes_and_proof() -> None:
    assert leaf_hash(b"L123456").hex() == (
        "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    )
    assert merkle.node_hash(b"N123", b"N456").hex() == (
        "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )
    assert [h.hex() for h in merkle.inclusion_proof(1, 8, ranges(INPUTS))] == [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


@pytest.mark.parametrize(("index", "size", "leaf", "proof"), INCLUSIONS)
def test_vector_b_inclusion(index: int, size: int, leaf: str, proof: list[str]) -> None:
    hashes = [b64decode(h) for h in proof]
    assert merkle.inclusion_proof(index, size, ranges(INPUTS)) == hashes
    merkle.verify_inclusion(
        index=index, size=size, leaf=b64decode(leaf), proof=hashes, root=bytes.fromhex(ROOTS[size])
    )


@pytest.mark.parametrize(("old_size", "size", "proof"), CONSISTENCIES)
def test_vector_b_consistency(old_size: int, size: int, proof: list[str]) -> None:
    hashes = [b64decode(h) for h in proof]
    assert merkle.consistency_proof(old_size, size, ranges(INPUTS)) == hashes
    merkle.verify_consistency(
        old_size=old_size, size=size, proof=hashes,
        old_root=bytes.fromhex(ROOTS[old_size]), root=bytes.fromhex(ROOTS[size]),
    )  # fmt: skip


def broken(proof: list[bytes], *roots: bytes) -> list[list[bytes]]:
    """The ways the published negative vectors spoil a list of hashes."""
    found = [[*proof, h] for h in (b"", STRAY, *roots)]
    found += [[h, *proof] for h in (b"", STRAY, *roots)]
    found += [[*proof[:n], STRAY, *proof[n:]] for n in range(1, len(proof))]
    found += [proof[:-1], proof[1:], []] if proof else []
    for position, h in enumerate(proof):
        flipped = bytes([h[0] ^ 0x10]) + h[1:]
        found.append([*proof[:position], flipped, *proof[position + 1 :]])
        found.append([*proof[:position], h[:31], *proof[position + 1 :]])
    return [p for p in found if p != proof]


@pytest.mark.parametrize("size", range(1, 9))
def test_vector_b_negative_inclusions(size: int) -> None:
    """Every class of spoiled proof of the published set, over every index of every tree."""
    data, tree = INPUTS[:size], bytes.fromhex(ROOTS[size])
    for index in range(size):
        leaf = leaf_hash(data[index])
        proof = merkle.inclusion_proof(index, size, ranges(data))
        check = partial(merkle.verify_inclusion, leaf=leaf, root=tree)
        check(index=index, size=size, proof=proof)
        for bad in broken(proof, tree, leaf):
            with pytest.raises(ProofError):
                check(index=index, size=size, proof=bad)
        for wrong in {index + 1, index - 1, index ^ 2} - {index}:
            with pytest.raises(ProofError):
                check(index=wrong, size=size, proof=proof)
        for wrong in {size * 2, size // 2, 0} - {size}:
            with pytest.raises(ProofError):
                merkle.verify_inclusion(index=index, size=wrong, leaf=leaf, proof=proof, root=tree)
        for wrong_leaf in (b"", WRONG_LEAF, STRAY):
            with pytest.raises(ProofError):
                check(index=index, size=size, proof=proof, leaf=wrong_leaf)
        for wrong_root in (b"", merkle.EMPTY_ROOT, STRAY):
            with pytest.raises(ProofError):
                check(index=index, size=size, proof=proof, root=wrong_root)


@pytest.mark.parametrize("size", range(1, 9))
def test_vector_b_negative_consistencies(size: int) -> None:
    new = bytes.fromhex(ROOTS[size])
    for old_size in range(1, size + 1):
        old = bytes.fromhex(ROOTS[old_size])
        proof = merkle.consistency_proof(old_size, size, ranges(INPUTS[:size]))
        check = partial(merkle.verify_consistency, old_root=old, root=new)
        check(old_size=old_size, size=size, proof=proof)
        for bad in broken(proof, old, new):
            with pytest.raises(ProofError):
                check(old_size=old_size, size=size, proof=bad)
        for wrong in {0, size + 1}:
            with pytest.raises(ProofError):
                check(old_size=wrong, size=size, proof=proof)
        if old_size != size:
            with pytest.raises(ProofError):
                merkle.verify_consistency(
                    old_size=old_size, size=size, old_root=new, root=old, proof=proof
                )


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("leaf", [b"", STRAY])
@pytest.mark.parametrize("tree", [b"", merkle.EMPTY_ROOT])
def test_vector_b_nothing_is_in_an_empty_tree(
    index: int, size: int, leaf: bytes, tree: bytes
) -> None:
    with pytest.raises(ProofError):
        merkle.verify_inclusion(index=index, size=size, leaf=leaf, proof=[], root=tree)


@pytest.mark.parametrize(
    ("old_size", "size", "old_root", "root_", "proof"),
    [
        (0, 0, b"don't care 1", WRONG_ROOT, []), (1, 1, ROOTS[1], ROOTS[2], []),
        (0, 0, ROOTS[0], ROOTS[0], [WRONG_ROOT]), (1, 1, ROOTS[1], ROOTS[1], [ROOTS[1]]),
        (0, 1, ROOTS[0], ROOTS[1], []), (0, 1, WRONG_ROOT, ROOTS[1], []),
        (1, 2, ROOTS[1], ROOTS[2], []), (1, 0, ROOTS[1], ROOTS[0], []),
        (2, 1, ROOTS[2], ROOTS[1], []), (2, 1, ROOTS[2], ROOTS[1], [ROOTS[1]]),
        (1, 1, WRONG_ROOT, WRONG_ROOT, []),
    ],
)  # fmt: skip
def test_vector_b_sizes_and_roots_that_do_not_belong_together(
    old_size: int, size: int, old_root: str | bytes, root_: str | bytes, proof: list[str | bytes]
) -> None:
    """The published edge cases; the last one is ours, where a root has not 32 bytes."""

    def raw(h: str | bytes) -> bytes:
        return bytes.fromhex(h) if isinstance(h, str) else h

    with pytest.raises(ProofError):
        merkle.verify_consistency(
            old_size=old_size, size=size, old_root=raw(old_root), root=raw(root_),
            proof=[raw(h) for h in proof],
        )  # fmt: skip


def test_equal_trees_are_consistent_without_a_proof() -> None:
    one = bytes.fromhex(ROOTS[1])
    merkle.verify_consistency(old_size=1, size=1, old_root=one, root=one, proof=[])


def test_growth_from_the_empty_tree_proves_nothing() -> None:
    with pytest.raises(ProofError):
        merkle.verify_consistency(
            old_size=0, size=8, old_root=merkle.EMPTY_ROOT, root=bytes.fromhex(ROOTS[8]), proof=[]
        )
    with pytest.raises(ProofError):
        merkle.consistency_proof(0, 8, ranges(INPUTS))


@given(leaves)
def test_every_prefix_is_consistent_with_every_longer_tree(data: list[bytes]) -> None:
    size = len(data)
    for old_size in range(1, size + 1):
        merkle.verify_consistency(
            old_size=old_size,
            size=size,
            old_root=root(data[:old_size]),
            root=root(data),
            proof=merkle.consistency_proof(old_size, size, ranges(data)),
        )


@given(leaves, st.data())
def test_every_leaf_has_a_proof_and_no_other_leaf_has_it(
    data: list[bytes], draw: st.DataObject
) -> None:
    index = draw.draw(st.integers(0, len(data) - 1))
    other = draw.draw(st.binary(max_size=40).filter(lambda b: b != data[index]))
    proof = merkle.inclusion_proof(index, len(data), ranges(data))
    check = partial(merkle.verify_inclusion, index=index, size=len(data), proof=proof)
    check(leaf=leaf_hash(data[index]), root=root(data))
    with pytest.raises(ProofError):
        check(leaf=leaf_hash(other), root=root(data))


@given(leaves, st.data())
def test_the_split_into_batches_does_not_change_the_root(
    data: list[bytes], draw: st.DataObject
) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    frontier = Frontier()
    frontier.extend(data[:cut])
    resumed = Frontier(frontier.size, frontier.hashes())
    for leaf in data[cut:]:
        resumed.push(leaf_hash(leaf))
    assert resumed.root() == root(data)
    assert resumed.size == len(data)


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_row_at_a_time_or_a_leaf_at_a_time_is_the_same_edge(counts: list[int]) -> None:
    rows, single = Frontier(), Frontier()
    for count in counts:
        hashed = [leaf_hash(b"%d" % (rows.size + n)) for n in range(count)]
        before = rows.copy()
        rows.extend_hashed(hashed)
        for one in hashed:
            single.push(one)
        assert (rows.size, rows.hashes()) == (single.size, single.hashes())
        assert before.size == rows.size - count
        assert len(before.hashes()) == before.size.bit_count()


@given(leaves)
def test_another_implementation_agrees_on_roots(data: list[bytes]) -> None:
    oracle = pytest.importorskip("pymerkle").InmemoryTree(algorithm="sha256")
    for leaf in data:
        oracle.append_entry(leaf)
    assert oracle.get_root() == root(data)


def test_a_frontier_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="edge hashes"):
        Frontier(3, [b"\0" * 32])
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier(1, [b"\0"])
