"""Steps of separate controllers to the watt, on a SOP without losses: count, size and direction."""

import pytest
from fakes.core import make_sop

from gateway.core.stepped import Stepped, next_step, plan_steps, steps_count
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import LossCurve

PURE = make_sop(losses=LossCurve(a_ppm=0, b_ppm=0, c_ppm=0))
SPARE_W = 6  # a watt for each of three slaves at both ends of a step
FULL = {t.id: t.s_va for t in PURE.terminals}


def powers(*slaves_w):
    return dict(zip(("T1", "T2", "T3", "T4"), (0, *slaves_w), strict=True))


def planned(before, after, master_w, sop=PURE):
    return plan_steps(
        sop, from_w=powers(*before), to_w=powers(*after), available_va=FULL | {"T1": master_w}
    )


@pytest.mark.parametrize(
    ("before", "after", "room_w"),
    [
        ((0, 0, 0), (60_000, 0, 0), 60_000),  # all of it up
        ((0, 0, 0), (-60_000, 0, 0), 60_000),
        ((0, 0, 0), (60_000, -60_000, 0), 60_000),  # one up, one down
        ((0, 0, 40_000), (60_000, 0, 40_000), 100_000),  # further from zero
        ((0, 0, -40_000), (-60_000, 0, -40_000), 100_000),
        ((60_000, 0, 40_000), (0, 0, 40_000), 100_000),  # back towards zero
        ((-60_000, 0, -40_000), (0, 0, -40_000), 100_000),
        ((0, 0, 40_000), (60_000, -20_000, 40_000), 100_000),
        ((0, 0, -40_000), (20_000, -60_000, -40_000), 100_000),
    ],
)
def test_a_change_that_just_fits_is_one_step_and_with_a_watt_less_two(before, after, room_w):
    whole = planned(before, after, room_w + SPARE_W)
    assert whole == Stepped(steps=({t: w for t, w in powers(*after).items() if t != "T1"},))
    assert len(planned(before, after, room_w + SPARE_W - 1).steps) == 2


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("move_w", "parts_w"), [(10, [3, 6, 10]), (11, [3, 7, 11])])
def test_steps_are_equal_and_rounded_towards_where_they_began(move_w, parts_w, sign):
    beside_w = 7 * sign
    found = planned((0, beside_w, 0), (sign * move_w, beside_w, 0), 4 + 7 + SPARE_W)
    assert [step["T2"] for step in found.steps] == [sign * w for w in parts_w]
    assert {step["T3"] for step in found.steps} == {beside_w}


@pytest.mark.parametrize(
    ("move_w", "master_w", "said"),
    [
        (20, SPARE_W + 1, 20),
        (21, SPARE_W + 1, "21 steps, at most 20"),
        (1, SPARE_W, "master T1 has no room at an end of the change"),
        (1, SPARE_W + 1, 1),
        (0, 0, 0),
    ],
)
def test_a_watt_of_room_is_a_watt_a_step(move_w, master_w, said):
    for sign in (1, -1):
        found = planned((0, 0, 0), (sign * move_w, 0, 0), master_w)
        assert (found.detail if isinstance(found, Reason) else len(found.steps)) == said


def test_a_master_is_never_reckoned_beyond_its_rating_and_an_unknown_one_has_no_room():
    after = (230_000, -230_000, 0)
    assert planned((0, 0, 0), after, 900_000) == planned((0, 0, 0), after, 250_000)
    far = ((-230_000, 230_000, 0), (230_000, -230_000, 0))
    assert len(planned(*far, 900_000).steps) == 2
    unknown = {t: s for t, s in FULL.items() if t != "T1"}
    found = plan_steps(PURE, from_w=powers(0, 0, 0), to_w=powers(1, 0, 0), available_va=unknown)
    assert found.code is ReasonCode.MASTER_HEADROOM


@pytest.mark.parametrize(("less_w", "count"), [(0, 1), (1, 2)])
def test_who_feeds_in_leaves_room_for_every_loss_at_its_highest(less_w, count):
    sop = make_sop()
    loss_w = sum(sop.losses.loss_w(p_w=p, s_va=250_000) for p in (60_000, 20_000, 0, 250_000))
    found = planned((0, -20_000, 0), (60_000, -20_000, 0), 40_000 + loss_w + SPARE_W - less_w, sop)
    assert len(found.steps) == count
    drawn = planned((0, 0, 0), (-60_000, 0, 0), 60_000 + SPARE_W - less_w, sop)
    assert len(drawn.steps) == count, "losses relieve a master that feeds"


def following(before, after, master_w):
    found = next_step(
        PURE, from_w=powers(*before), to_w=powers(*after), available_va=FULL | {"T1": master_w}
    )
    return found if isinstance(found, Reason) else tuple(found[t] for t in ("T2", "T3", "T4"))


@pytest.mark.parametrize(
    ("before", "after", "master_w", "step"),
    [
        ((0, 0, 0), (10, -20, 0), SPARE_W, (6, 0, 0)),  # from zero who has less to move
        ((0, 0, 0), (20, -10, 0), SPARE_W, (0, -6, 0)),
        ((0, 0, 0), (20, -20, 0), SPARE_W, (6, 0, 0)),
        ((6, 0, 0), (16, -30, 0), SPARE_W, (6, -12, 0)),  # back through zero first
        ((-6, 0, 0), (-40, 30, 0), SPARE_W, (-6, 12, 0)),
        ((6, 0, 0), (16, -4, 0), SPARE_W, (6, -4, 0)),  # all of it where it fits
        ((0, 0, 0), (1, 1, -20), 1, (0, 0, -1)),  # too little to share: the other way
        ((5, -5, 0), (5, -5, 0), 0, (5, -5, 0)),
    ],
)
def test_without_room_for_equal_steps_one_way_goes_first(before, after, master_w, step):
    assert following(before, after, master_w) == step


def test_a_master_without_a_watt_lets_nothing_go():
    found = following((0, 0, 0), (10, -10, 0), 0)
    assert found.detail == "master T1 has no room at an end of the change"


@pytest.mark.parametrize(
    ("before", "after", "count"),
    [
        ((0, 0, 0), (0, 0, 0), 0),
        ((0, 0, 0), (230_000, 0, 0), 1),
        ((-200_000, 200_000, 0), (200_000, -200_000, 0), 2),
        ((230_000, 0, 0), (0, 230_000, 0), 12),  # 19,994 W of room
    ],
)
def test_steps_are_counted_as_they_will_be_made(before, after, count):
    assert steps_count(PURE, from_w=powers(*before), to_w=powers(*after)) == count
