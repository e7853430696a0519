"""What is shown before consent is what moves: both ways, reactive power, and the master."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fakes.core import make_sop

from gateway.cli.operations import OPERATIONS
from gateway.cli.output import CommandFailed, ExitCode
from gateway.cli.preview import level_of_targets, preview, refuse_beyond_guards
from gateway.commissioning.plan import Level
from gateway.commissioning.session import Power
from gateway.commissioning.sweep import spiral

SWEEP = {"terminal": "T2", "angles": 12, "radius": (0.3, 0.6, 0.9), "hold": 4000}


def field_of(sop):
    return SimpleNamespace(
        equipment=SimpleNamespace(
            sop=sop,
            converters={},
            device_timeout_ms=5000,
            station=SimpleNamespace(profile=SimpleNamespace(each_terminal=None)),
        ),
        rack=SimpleNamespace(
            equipment=SimpleNamespace(sop=sop),
            clock=SimpleNamespace(utc_us=lambda: 0, mono_us=lambda: 0),
            second_station=lambda: SimpleNamespace(staged_block=lambda _: b"\0" * 8),
        ),
    )


def test_a_sweep_is_judged_by_every_point_it_may_visit():
    sop = make_sop().limited("T2", p_w_min=-230_000, p_w_max=20_000)
    targets = OPERATIONS["test sweep"].moves(field_of(sop), SWEEP)
    visited = spiral(
        s_va=250_000, p_w_min=-230_000, p_w_max=20_000, angles_count=12, radii=(0.3, 0.6, 0.9)
    )
    assert {(t.p_w, t.q_var) for t in visited} <= {(p.p_w, p.q_var) for p in targets["T2"]}
    assert level_of_targets(sop, targets) is Level.SEVERE


async def test_the_plan_of_a_sweep_says_how_far_p_and_q_go_and_what_the_master_carries():
    sop = make_sop().limited("T2", p_w_min=-230_000, p_w_max=20_000)
    field = field_of(sop)
    targets = OPERATIONS["test sweep"].moves(field, SWEEP)
    shown = await preview(field, targets, command=("test", "sweep", "T2"))
    assert shown.level is Level.SEVERE
    text = "\n".join(shown.lines)
    assert "T2 up to -225.0 … +20.0 kW -225.0 … +225.0 kvar; guard -230 … 20 kW" in text
    assert "T1 carries the rest, up to -20.0 … +225.0 kW, and the losses" in text


@pytest.mark.parametrize(
    ("powers", "level"),
    [
        ((Power(p_w=50_000),), Level.MODERATE),
        ((Power(p_w=10_000), Power(p_w=-50_001)), Level.SEVERE),
        ((Power(q_var=-50_001),), Level.SEVERE),
        ((Power(p_w=40_000, q_var=40_000),), Level.SEVERE),
    ],
)
def test_the_level_counts_either_direction_and_reactive_power(powers, level):
    assert level_of_targets(make_sop(), {"T2": powers}) is level


def test_a_small_master_moves_much_with_what_is_little_for_the_others():
    terminals = make_sop().terminals
    small = make_sop(terminals=(replace(terminals[0], s_va=100_000), *terminals[1:]))
    assert level_of_targets(small, {"T2": (Power(p_w=25_000),)}) is Level.SEVERE


@pytest.mark.parametrize(
    ("powers", "where"),
    [
        ((Power(p_w=230_000), Power(p_w=-230_001)), "T2"),
        ((Power(p_w=200_000, q_var=160_000),), "T2"),
        ((Power(p_w=100_001),), "T1"),
        ((Power(p_w=60_000), Power(p_w=-60_001)), "T1"),
    ],
)
def test_beyond_a_guard_or_a_rating_there_is_no_plan_and_the_master_has_a_guard_too(powers, where):
    sop = make_sop()
    if where == "T1":
        sop = sop.limited("T1", p_w_min=-100_000, p_w_max=60_000)
    with pytest.raises(CommandFailed) as caught:
        refuse_beyond_guards(field_of(sop), {"T2": powers})
    (finding,) = caught.value.findings
    assert (caught.value.exit_code, finding.code, finding.where) == (
        ExitCode.REFUSED,
        "H004",
        where,
    )


def test_up_to_the_guard_is_allowed():
    sop = make_sop().limited("T1", p_w_min=-100_000, p_w_max=60_000)
    refuse_beyond_guards(field_of(sop), {"T2": (Power(p_w=100_000), Power(p_w=-60_000))})
