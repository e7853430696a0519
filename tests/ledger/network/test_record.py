import json

import pytest

from ledger.contracts.document import Mistake
from ledger.contracts.market import Effects, Refusal
from ledger.log.canonical import LEAF_BYTES_MAX
from ledger.network.config import NODES_MAX
from ledger.network.record import finished

VOTES = [{"node": f"n{i}", "block": "a" * 64, "sig": "b" * 128} for i in range(4)]


def refusal(number, *, party="R1", reasons=9, length=300):
    mistakes = tuple(Mistake(path="$", message='"' * length) for _ in range(reasons))
    return Refusal(message=f"{number:064x}", party=party, mistakes=mistakes)


def entry_of(effects):
    (leaf,) = finished(7, None, VOTES, effects)
    assert len(leaf) <= LEAF_BYTES_MAX
    return json.loads(leaf)["effects"]


@pytest.mark.parametrize(
    ("count", "reasons", "length"), [(3, 5, 200), (25, 5, 200), (150, 1, 80), (220, 1, 80)]
)
def test_as_many_reasons_as_fit(count, reasons, length):
    found = entry_of(Effects(accepted=["c" * 64], refused=[refusal(n) for n in range(count)]))
    assert [one["message"] for one in found["refused"]] == [f"{n:064x}" for n in range(count)]
    assert {len(one["errors"]) for one in found["refused"]} == {reasons}
    assert {len(error) for one in found["refused"] for error in one["errors"]} == {length}
    assert "no_messages" not in found


def test_the_largest_committee_leaves_room_for_every_refusal_of_a_full_block():
    votes = [{"node": f"{i:064}", "height": 10**9, "block": "a" * 64, "transactions": "b" * 64, "state": "c" * 64, "sig": "d" * 128} for i in range(NODES_MAX)]  # fmt: skip
    refused = [refusal(n, party="R" * 64) for n in range(210)]  # a message has 280 bytes and more
    (leaf,) = finished(10**9, None, votes, Effects(refused=refused))
    assert len(leaf) <= LEAF_BYTES_MAX
    assert len(json.loads(leaf)["effects"]["refused"]) == 210


def test_what_no_party_sent_is_only_counted():
    strangers = [refusal(n, party=name) for n, name in enumerate(("", "x" * 65, "R1"))]
    found = entry_of(Effects(refused=strangers))
    assert [one["party"] for one in found["refused"]] == ["R1"]
    assert found["no_messages"] == 2


def test_five_days_of_rounds_that_are_cleared_at_once_still_fit():
    names = [f"{n:064}" for n in range(512)]
    effects = Effects(accepted=["c" * 64] * 200, refused=[refusal(1)], cleared=names, settled=names)
    assert entry_of(effects)["accepted"] == effects.accepted
