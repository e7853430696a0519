"""Records of the state say plainly whether power is meant."""

import pytest

from gateway.core.records import Active


def active(**setpoints):
    return Active(instr_id=1, setpoints=setpoints, plan_index=0, utc_us=0, mono_us=0, boot_number=1)


@pytest.mark.parametrize(
    ("setpoints", "moves"), [({}, False), ({"T2": 0, "T3": 0}, False), ({"T2": 0, "T3": -1}, True)]
)
def test_any_setpoint_but_zero_moves_power(setpoints, moves):
    assert active(**setpoints).moves_power is moves


def test_ramps_are_over_and_unslowed_unless_said():
    assert (active().ramp_ms, active().slowed) == (0, False)
