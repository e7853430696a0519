"""Several orders on one thing: the latest that lasts decides, and none ends another."""

import itertools

import pytest

from firmware_sim.claims import Claims, together


@pytest.fixture
def seen():
    return []


def test_a_short_order_gives_back_to_the_longer_one(seen):
    claims = Claims()
    long = claims.hold("a", 1, rest=0, put=seen.append)
    short = claims.hold("a", 2, rest=99, put=seen.append)
    short()
    long()
    assert seen == [1, 2, 1, 0]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_in_whatever_order_they_end_the_last_leaves_what_was_there_before(seen, order):
    claims = Claims()
    undos = [claims.hold("a", k, rest="before", put=seen.append) for k in range(3)]
    for k in order:
        undos[k]()
        undos[k]()  # twice does no harm
    assert seen[-1] == "before"
    assert seen.count("before") == 1


def test_keys_do_not_touch_each_other(seen):
    claims = Claims()
    claims.hold("a", 1, rest=0, put=seen.append)
    claims.hold("b", 2, rest=0, put=seen.append)()
    assert seen == [1, 2, 0]


def test_release_takes_all_back_and_leaves_later_orders_alone(seen):
    claims = Claims()
    old = together(
        claims.hold("a", 1, rest=0, put=seen.append), claims.hold("b", 2, rest=0, put=seen.append)
    )
    claims.release()
    assert seen == [1, 2, 0, 0]
    claims.hold("a", 5, rest=0, put=seen.append)
    old()
    assert seen == [1, 2, 0, 0, 5]
