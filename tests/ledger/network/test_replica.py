import copy
from json import loads as decode_json

import pytest

from ledger.contracts.document import canonical
from ledger.contracts.market import Effects
from ledger.network.block import Block, block_hash, genesis_hash
from ledger.network.message import sign_vote
from ledger.network.record import (
    ReplayDiffers,
    finished,
    replay,
    restore,
    snapshot_document,
    voted,
)
from ledger.network.replica import Committee, Replica


def a_block(replica, utc_ms=1_000):
    return Block(height=replica.height + 1, utc_ms=utc_ms, prev=replica.head, messages=()).encode()


@pytest.fixture
def replica(net):
    return Replica(net.committee(), net.genesis(), node="n0")


@pytest.mark.parametrize(
    ("n", "f", "quorum"), [(1, 0, 1), (2, 0, 2), (3, 0, 2), (3, 1, 3), (4, 1, 3), (7, 2, 5)]
)
def test_two_quorums_always_share_an_honest_node(n, f, quorum):
    committee = Committee(market="m", keys={f"n{i}": "" for i in range(n)}, faulty_count_max=f)
    assert committee.quorum == quorum
    assert 2 * quorum - n > f


def test_a_node_votes_once_a_height(net, replica):
    replica.examine(a_block(replica), net.key_of("n0"))
    with pytest.raises(AssertionError, match="votes once"):
        replica.examine(a_block(replica, 2_000), net.key_of("n0"))


def test_a_double_vote_is_evidence_that_proves_itself(net, replica):
    replica.examine(a_block(replica), net.key_of("n0"))
    subject = replica.my_vote.subject
    one = sign_vote("m", "n1", 1, subject, net.key_of("n1"))
    two = sign_vote("m", "n1", 1, (subject[0], subject[1], "ff" * 32), net.key_of("n1"))
    assert replica.count(one.encode()) is None
    evidence = replica.count(two.encode())
    assert evidence.what == "double vote"
    assert evidence.details["votes"] == [one.document(), two.document()]
    assert replica.count(two.encode()) is None  # said once
    assert replica.votes["n1"] == one  # the first one counts


def test_votes_of_other_heights_and_strangers_count_for_nothing(net, replica):
    replica.examine(a_block(replica), net.key_of("n0"))
    subject = replica.my_vote.subject
    for vote in (
        sign_vote("m", "n1", 2, subject, net.key_of("n1")),
        sign_vote("m", "n9", 1, subject, net.key_of("n9")),
        sign_vote("m", "n1", 1, subject, net.key_of("n2")),
    ):
        assert replica.count(vote.encode()) is None
    assert set(replica.votes) == {"n0"}


def test_hopeless_means_that_no_vote_still_to_come_can_help(net, replica):
    replica.examine(a_block(replica), net.key_of("n0"))
    subject = replica.my_vote.subject
    other = (subject[0], subject[1], "ff" * 32)
    replica.count(sign_vote("m", "n1", 1, other, net.key_of("n1")).encode())
    assert not replica.hopeless()
    replica.count(sign_vote("m", "n2", 1, other, net.key_of("n2")).encode())
    assert not replica.hopeless()  # n3 may still join n1 and n2
    replica.count(sign_vote("m", "n3", 1, subject, net.key_of("n3")).encode())
    assert replica.hopeless()
    assert replica.certified() is None


def certified(net, replica, raw):
    for i in range(4):
        if i:
            vote = sign_vote("m", f"n{i}", 1, replica.my_vote.subject, net.key_of(f"n{i}"))
            replica.count(vote.encode())
        else:
            replica.examine(raw, net.key_of("n0"))
    subject = replica.certified()
    leaves = voted(raw, replica.my_vote)
    return leaves + finished(1, None, replica.certificate(subject), Effects())


def test_a_ledger_leads_back_to_its_state_and_a_forged_one_does_not(net, replica):
    raw = a_block(replica)
    leaves = certified(net, replica, raw)
    fresh = Replica(net.committee(), net.genesis(), node="n0")
    replay(fresh, leaves, net.key_of("n0"))
    assert fresh.height == 1
    assert fresh.market.now_ms == 1_000
    for damaged in (
        leaves[1:],  # final without its block
        [leaves[0].replace(b'"utc_ms":1000', b'"utc_ms":1001'), *leaves[1:]],
        [leaves[0], leaves[1], leaves[2].replace(b'"n1"', b'"n4"').replace(b'"n2"', b'"n5"')],
        [*leaves, *leaves],
    ):
        again = Replica(net.committee(), net.genesis(), node="n0")
        with pytest.raises(ReplayDiffers):
            replay(again, damaged, net.key_of("n0"))


def test_final_blocks_of_another_nodes_ledger_bring_a_fresh_one_to_its_height(net, replica):
    """What people copy where the ordering service has forgotten: no votes, only what is final."""
    leaves = certified(net, replica, a_block(replica))
    copied = [leaf for leaf in leaves if b'"net.vote"' not in leaf]
    fresh = Replica(net.committee(), net.genesis(), node="n3")
    replay(fresh, copied, net.key_of("n3"))
    assert (fresh.height, fresh.my_vote) == (1, None)
    own = voted(a_block(replica, 5), Replica(net.committee(), net.genesis(), node="n3").examine(a_block(replica, 5), net.key_of("n3")))  # fmt: skip
    behind = Replica(net.committee(), net.genesis(), node="n3")
    replay(behind, own + copied, net.key_of("n3"))
    assert (behind.height, behind.my_vote) == (1, None)


def outvoted(net, raw, other):
    """What a node writes that had voted for a block, when a quorum made another one final."""
    replica = Replica(net.committee(), net.genesis(), node="n0")
    leaves = voted(raw, replica.examine(raw, net.key_of("n0")))
    for i in range(1, 4):
        subject = replica.execute(other).subject
        replica.count(sign_vote("m", f"n{i}", 1, subject, net.key_of(f"n{i}")).encode())
    return leaves + finished(1, other, replica.certificate(replica.certified()), Effects())


def test_a_power_cut_before_the_final_entry_of_another_block_keeps_the_vote(net, replica):
    mine, theirs = a_block(replica), a_block(replica, 2_000)
    torn = outvoted(net, mine, theirs)[:-1]
    fresh = Replica(net.committee(), net.genesis(), node="n0")
    replay(fresh, torn, net.key_of("n0"))
    assert (fresh.height, fresh.my_vote.block) == (0, block_hash(mine))
    # What comes after that start is replayed too, whichever block becomes final.
    again = outvoted(net, mine, theirs)[2:]
    of_mine = certified(net, replica, mine)[2:]
    for more, utc_ms in ((again, 2_000), (of_mine, 1_000)):
        fresh = Replica(net.committee(), net.genesis(), node="n0")
        replay(fresh, torn + more, net.key_of("n0"))
        assert (fresh.height, fresh.market.now_ms) == (1, utc_ms)
    with pytest.raises(ReplayDiffers, match="can not be repeated"):
        replay(Replica(net.committee(), net.genesis(), node="n0"), torn[1:], net.key_of("n0"))


def test_a_kept_state_is_believed_only_with_the_quorums_signatures(net, replica):
    raw = a_block(replica)
    leaves = certified(net, replica, raw)
    replica.finish(replica.executed)
    document = decode_json(canonical(snapshot_document(replica, 2)))
    fresh = Replica(net.committee(), net.genesis(), node="n0")
    restore(fresh, document, leaves[2])
    assert (fresh.height, fresh.head) == (1, replica.head)
    assert fresh.market.root() == replica.market.root()
    richer = copy.deepcopy(document)
    richer["state"]["parties"]["op"]["deposit"] = 10**6
    for lie, leaf in (
        (richer, leaves[2]),
        ({**document, "head": "00" * 32}, leaves[2]),
        ({**document, "height": 2}, leaves[2]),
        (document, leaves[1]),
        (document, leaves[2].replace(b'"n1"', b'"n4"').replace(b'"n2"', b'"n5"')),
    ):
        again = Replica(net.committee(), net.genesis(), node="n0")
        with pytest.raises(ReplayDiffers):
            restore(again, lie, leaf)
        assert again.height == 0


def test_genesis_differs_by_market():
    assert genesis_hash("a") != genesis_hash("b")
