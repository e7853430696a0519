"""Proofs from the ledger's own bytes."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import checkpoint, merkle
from ledger.log.treeview import NothingSigned, TreeView, subtree_levels


def test_proofs_of_every_entry_and_every_growth(make: Callable[..., Path]) -> None:
    leaves = [b"%d" % n for n in range(37)]
    view = TreeView.open(make(leaves[:5], leaves[5:]))
    point = checkpoint.parse(view.checkpoint).checkpoint
    assert view.size == 37
    for index, leaf in enumerate(leaves):
        merkle.verify_inclusion(
            index=index, size=37, leaf=merkle.leaf_hash(leaf), root=point.root,
            proof=view.inclusion(index, 37),
        )  # fmt: skip
    for old in range(1, 38):
        merkle.verify_consistency(
            old_size=old, size=37, old_root=view.root_of(0, old), root=point.root,
            proof=view.consistency(old, 37),
        )  # fmt: skip


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=70), st.data())
def test_range_roots_are_those_of_the_plain_definition(
    hashes: list[bytes], data: st.DataObject
) -> None:
    size = len(hashes)
    view = TreeView(b"", subtree_levels(hashes))
    index = data.draw(st.integers(0, size - 1))
    plain = merkle.inclusion_proof(index, size, lambda a, b: merkle.range_root(hashes, a, b))
    assert view.inclusion(index, size) == plain


def test_nothing_to_prove_in_an_empty_ledger(make: Callable[..., Path]) -> None:
    with pytest.raises(NothingSigned):
        TreeView.open(make())
