from dataclasses import replace
from decimal import Decimal

import pytest

from gateway.devices.guard import GuardReason, GuardRefused, StationGuard, WriteBudget
from gateway.devices.profile import Point
from gateway.model.errors import DeviceNotSent
from gateway.model.setpoint import ControlMode, Instruction, Setpoint
from gateway.model.telemetry import State, StationTelemetry
from gateway.model.terminal import Terminal

T1, T2 = (
    Terminal(
        id=name, index=n, domain=name, meter=name, s_va=100_000, p_w_min=-90_000, p_w_max=80_000,
        ramp_w_per_s=20_000, v_dv_min=3600, v_dv_max=4400,
    )
    for n, name in enumerate(("T1", "T2"))
)  # fmt: skip
SEEN = StationTelemetry(
    utc_us=0, mono_us=0, state=State.RUN, status_bits=1 << 5, fault_bits=0, alarm_bits=0, ack_seq=0,
    ack_code=0, heartbeat_count=0, watchdog_remaining_ds=50, instruction_id=0, master="T1",
    v_dc_dv=8000, loss_w=0, uptime_s=9, lease_owner=7, terminals=(),
)  # fmt: skip


def guard(**fields):
    staged = {
        "p_set": Point(name="p_set"),
        "q_set": Point(name="q_set"),
        "ramp_set": Point(name="ramp_set", unit="%/s", range=(Decimal("0.001"), Decimal(1))),
    } | fields.pop("staged", {})
    return StationGuard(name="s", terminals=(T1, T2), staged=staged, owner=7, **fields)


def instruction(p2_w=0, *, q2_var=0, mode2=ControlMode.P_Q, **fields):
    setpoints = fields.pop("setpoints", None) or (
        Setpoint(terminal="T1", mode=ControlMode.VDC_Q, p_w=0),
        Setpoint(terminal="T2", mode=mode2, p_w=p2_w, q_var=q2_var),
    )
    return Instruction(
        **{"id": 1, "sop": "S", "ramp_permille_per_s": 200, "ttl_s": 60} | fields,
        setpoints=setpoints,
    )


def test_limits_are_inclusive():
    for p_w in (-90_000, 0, 80_000):
        guard().check(instruction(p_w), seen=SEEN, now_us=0)


@pytest.mark.parametrize(
    ("wanted", "seen", "reason"),
    [
        (instruction(80_001), SEEN, GuardReason.POWER_LIMIT),
        (instruction(-90_001), SEEN, GuardReason.POWER_LIMIT),
        (instruction(80_000, q2_var=60_001), SEEN, GuardReason.RATING),
        (instruction(1, ramp_permille_per_s=201), SEEN, GuardReason.RAMP),
        (instruction(1, ramp_permille_per_s=0), SEEN, GuardReason.RANGE),
        (instruction(1, ttl_s=0), SEEN, GuardReason.TIME_TO_LIVE),
        (instruction(1, ttl_s=65536), SEEN, GuardReason.TIME_TO_LIVE),
        (instruction(1, mode2=ControlMode.VDC_Q), SEEN, GuardReason.MASTER),
        (instruction(1, setpoints=(Setpoint(terminal="T2", mode=ControlMode.P_Q, p_w=0),)), SEEN, GuardReason.TERMINALS),
        (instruction(1, setpoints=(Setpoint(terminal="T2", mode=ControlMode.P_Q, p_w=0),) * 2), SEEN, GuardReason.TERMINALS),
        (instruction(1), None, GuardReason.STATE),
        (instruction(1), replace(SEEN, state=State.FAULT), GuardReason.STATE),
        (instruction(1), replace(SEEN, state=State.ESTOP), GuardReason.STATE),
        (instruction(1), replace(SEEN, status_bits=1 << 12), GuardReason.STATE),
        (instruction(1), replace(SEEN, lease_owner=8), GuardReason.LEASE),
    ],
)  # fmt: skip
def test_each_reason(wanted, seen, reason):
    with pytest.raises(GuardRefused) as caught:
        guard().check(wanted, seen=seen, now_us=0)
    assert caught.value.reason is reason
    assert isinstance(caught.value, DeviceNotSent)
    assert not caught.value.retryable


def test_what_the_others_leave_the_master_stays_within_its_rating():
    third = replace(T2, id="T3", index=2)
    staged = {
        name: Point(name=name, range=None if name != "ramp_set" else (Decimal(0), Decimal(1)))
        for name in ("p_set", "q_set", "ramp_set")
    }
    three = StationGuard(name="s", terminals=(T1, T2, third), staged=staged, owner=7)

    def wanted(p2_w, p3_w):
        powers = (("T1", ControlMode.VDC_Q, 0), ("T2", ControlMode.P_Q, p2_w))
        powers += (("T3", ControlMode.P_Q, p3_w),)
        return instruction(
            setpoints=tuple(Setpoint(terminal=t, mode=m, p_w=p) for t, m, p in powers)
        )

    for p2_w, p3_w in ((50_000, 50_000), (80_000, -90_000), (-50_000, -50_000), (0, 0)):
        three.check(wanted(p2_w, p3_w), seen=SEEN, now_us=0)
    for p2_w, p3_w in ((50_000, 50_001), (-50_001, -50_000)):
        with pytest.raises(GuardRefused, match="T1 as master") as caught:
            three.check(wanted(p2_w, p3_w), seen=SEEN, now_us=0)
        assert caught.value.reason is GuardReason.RATING


def test_zero_is_let_through_where_power_is_not():
    for seen in (None, replace(SEEN, state=State.FAULT), replace(SEEN, status_bits=1 << 12)):
        guard().check(instruction(0, ttl_s=0), seen=seen, now_us=0)


def test_a_dead_lease_may_be_taken_over():
    dead = replace(SEEN, lease_owner=8, watchdog_remaining_ds=0)
    guard().check(instruction(1), seen=dead, now_us=0)


def test_the_range_of_the_profile_counts_too():
    narrow = {"p_set": Point(name="p_set", range=(Decimal(-10), Decimal(10)))}
    with pytest.raises(GuardRefused, match="range"):
        guard(staged=narrow).check(instruction(11), seen=SEEN, now_us=0)


def test_the_write_budget_holds_moves_back_but_never_a_way_to_zero():
    found = guard(budget=WriteBudget(interval_ms_min=500, count_max=3, window_s=900))
    now_us = 0
    for p_w in (10_000, 20_000, 30_000):
        wanted = instruction(p_w)
        found.check(wanted, seen=SEEN, now_us=now_us)
        found.sent(wanted, now_us=now_us)
        with pytest.raises(GuardRefused, match="write-rate"):
            found.check(instruction(p_w + 1), seen=SEEN, now_us=now_us + 499_000)
        now_us += 500_000
    with pytest.raises(GuardRefused, match="3 writes in 900 s"):
        found.check(instruction(40_000), seen=SEEN, now_us=now_us)
    found.check(instruction(0), seen=SEEN, now_us=now_us)
    found.check(instruction(29_999), seen=SEEN, now_us=now_us)
    found.check(instruction(40_000), seen=SEEN, now_us=now_us + 900_000_000)


@pytest.mark.parametrize(
    ("last", "wanted"),
    [
        (instruction(50_000), instruction(-50_000)),
        (instruction(50_000), instruction(-10)),
        (instruction(50_000), instruction(50_000)),
        (instruction(50_000), instruction(50_000, q2_var=10)),
        (instruction(50_000, q2_var=20), instruction(50_000, q2_var=-20)),
        (instruction(50_000, q2_var=20), instruction(40_000, q2_var=21)),
        (instruction(50_000, q2_var=20), instruction(40_000, q2_var=-1)),
        (instruction(0), instruction(0, q2_var=10)),
    ],
    ids=[
        "flipped", "flipped and less", "repeated", "reactive power alone", "reactive power flipped",
        "reactive power up", "reactive power flipped and less", "reactive power at zero",
    ],
)  # fmt: skip
def test_what_is_not_on_the_way_to_zero_counts(last, wanted):
    found = guard(budget=WriteBudget(interval_ms_min=500, count_max=3, window_s=900))
    found.check(last, seen=SEEN, now_us=0)
    found.sent(last, now_us=0)
    with pytest.raises(GuardRefused, match="write-rate"):
        found.check(wanted, seen=SEEN, now_us=499_000)
    found.check(wanted, seen=SEEN, now_us=500_000)


def test_nothing_holds_back_what_falls_and_a_zero_never_waits():
    found = guard(budget=WriteBudget(interval_ms_min=500, count_max=1, window_s=900))
    for p_w, q_var in ((-50_000, 9_000), (-50_000, 8_000), (-40_000, 8_000), (-1, 0)):
        wanted = instruction(p_w, q2_var=q_var)
        found.check(wanted, seen=SEEN, now_us=0)
        found.sent(wanted, now_us=0)
    for _ in range(3):  # a zero that may not have arrived is said again
        found.check(instruction(0), seen=SEEN, now_us=0)
        found.sent(instruction(0), now_us=0)
    with pytest.raises(GuardRefused, match="write-rate"):
        found.check(instruction(1), seen=SEEN, now_us=0)
