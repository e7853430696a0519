"""Steps of separate controllers to the watt, on a SOP without losses: count, size and direction."""

import pytest
from fakes.core import make_sop

from gateway.core.stepped import course, next_step
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import LossCurve

PURE = make_sop(losses=LossCurve(a_ppm=0, b_ppm=0, c_ppm=0))
FULL = {t.id: t.s_va for t in PURE.terminals}


def powers(*slaves_w):
    return dict(zip(("T1", "T2", "T3", "T4"), (0, *slaves_w), strict=True))


def following(before, after, master_w, sop=PURE):
    found = next_step(
        sop, from_w=powers(*before), to_w=powers(*after), available_va=FULL | {"T1": master_w}
    )
    return found if isinstance(found, Reason) else tuple(found[t] for t in ("T2", "T3", "T4"))


@pytest.mark.parametrize(
    ("before", "after", "room_w"),
    [
        ((0, 0, 0), (60_000, 0, 0), 60_000),  # all of it up
        ((0, 0, 0), (-60_000, 0, 0), 60_000),
        ((0, 0, 0), (60_000, -60_000, 0), 60_000),  # one up, one down
        ((0, 0, 40_000), (60_000, 0, 40_000), 100_000),  # further from zero
        ((0, 0, -40_000), (-60_000, 0, -40_000), 100_000),
        ((0, 0, 40_000), (60_000, -20_000, 40_000), 100_000),
        ((0, 0, -40_000), (20_000, -60_000, -40_000), 100_000),
    ],
)
def test_a_change_that_just_fits_is_one_step_and_with_a_watt_less_it_is_not(before, after, room_w):
    assert following(before, after, room_w) == after
    assert following(before, after, room_w - 1) not in (before, after)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_step_is_the_largest_part_and_rounded_towards_where_it_began(sign):
    def signed(*powers_w):
        return tuple(sign * p for p in powers_w)

    # 20 W of 30 W have room: two thirds of each move, whole watts.
    assert following((0, 0, 0), signed(20, 10, -2), 20) == signed(13, 6, -1)
    assert following(signed(13, 6, -1), signed(20, 10, -2), 29) == signed(20, 10, -2)


@pytest.mark.parametrize(("room_w", "step"), [(40, (38, -40, 0)), (39, (39, 0, 0))])
def test_less_than_a_fifth_of_the_way_is_too_little_for_both_ways(room_w, step):
    assert following((0, 0, 0), (190, -200, 0), room_w) == step


def test_a_master_is_never_reckoned_beyond_its_rating_and_an_unknown_one_has_no_room():
    far = ((-230_000, 230_000, 0), (230_000, -230_000, 0))
    assert following(*far, 900_000) == following(*far, 250_000)
    unknown = {t: s for t, s in FULL.items() if t != "T1"}
    found = next_step(PURE, from_w=powers(0, 0, 0), to_w=powers(1, 0, 0), available_va=unknown)
    assert found.code is ReasonCode.MASTER_HEADROOM


@pytest.mark.parametrize(("less_w", "count"), [(0, 1), (1, 2)])
def test_who_feeds_in_leaves_room_for_every_loss_at_its_highest(less_w, count):
    sop = make_sop()
    loss_w = sum(sop.losses.loss_w(p_w=p, s_va=250_000) for p in (60_000, 20_000, 0, 250_000))
    before, after = (0, -20_000, 0), (60_000, -20_000, 0)
    whole = following(before, after, 40_000 + loss_w - less_w, sop) == after
    assert whole is (count == 1)
    drawn = following((0, 0, 0), (-60_000, 0, 0), 60_000 - less_w, sop) == (-60_000, 0, 0)
    assert drawn is (count == 1), "losses relieve a master that feeds"


@pytest.mark.parametrize(
    ("before", "after", "master_w", "step"),
    [
        ((0, 0, 0), (60, -130, 0), 6, (6, 0, 0)),  # from zero who has less to move
        ((0, 0, 0), (130, -60, 0), 6, (0, -6, 0)),
        ((0, 0, 0), (130, -130, 0), 6, (6, 0, 0)),
        ((6, 0, 0), (66, -130, 0), 6, (6, -12, 0)),  # back through zero first
        ((-6, 0, 0), (-136, 60, 0), 6, (-6, 12, 0)),
        ((6, 0, 0), (66, -4, 0), 6, (6, -4, 0)),  # all of it where it fits
        ((9, 0, 0), (4, 0, 0), 6, (4, 0, 0)),  # from more than it can carry
        ((0, 0, 0), (1, 1, -20), 1, (0, 0, -1)),  # too little to share: the other way
        ((5, -5, 0), (5, -5, 0), 0, (5, -5, 0)),
    ],
)
def test_with_little_room_one_way_goes_first(before, after, master_w, step):
    assert following(before, after, master_w) == step


def test_a_master_without_a_watt_lets_nothing_go():
    found = following((0, 0, 0), (10, -10, 0), 0)
    assert found.detail == "master T1 has no room for any part of the change"


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ((0, 0, 0), (0, 0, 0), 0),
        ((0, 0, 0), (230_000, 0, 0), 1),
        ((-200_000, 200_000, 0), (200_000, -200_000, 0), 2),
        ((230_000, 0, 0), (0, 230_000, 0), 2),  # 20 kW of room: down first, then up
    ],
)
def test_steps_are_counted_as_they_will_be_made(before, after, count):
    found = course(PURE, from_w=powers(*before), to_w=powers(*after), permille=200, pause_ms=1_500)
    assert found.steps_count == count
