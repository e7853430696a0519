"""Any sequence of orders, faults and silences keeps the device's own promises."""

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from firmware_sim.plant.converter import Fault, Mode

S = 250_000
POWER = st.integers(-260_000, 260_000)
ACTIONS = st.one_of(
    st.tuples(st.just("operate"), st.lists(POWER, min_size=3, max_size=3)),
    st.tuples(st.just("select"), st.lists(POWER, min_size=3, max_size=3)),
    st.tuples(st.just("modes"), st.lists(st.integers(0, 5), min_size=4, max_size=4)),
    st.tuples(st.just("command"), st.integers(1, 10)),
    st.tuples(st.just("master"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from([0.5, 3.0, 11.0])),
    st.tuples(st.just("silence"), st.sampled_from([2.0, 6.0, 12.0])),
    st.tuples(st.just("trip"), st.integers(0, 3)),
    st.tuples(
        st.just("feeder"), st.tuples(st.integers(0, 3), st.sampled_from([0.0, 340.0, 400.0]))
    ),
    st.tuples(st.just("derate"), st.tuples(st.integers(0, 3), st.sampled_from([0.2, 1.0]))),
    st.tuples(st.just("local"), st.booleans()),
)


def holds(rig):
    """What must be true after every single step."""
    sop = rig.sop
    regulating = [c for c in sop.converters if c.mode is Mode.VDC_Q]
    assert len(regulating) == (0 if sop.droop_only else 1)
    for c in sop.converters:
        if not c.modulating and c is not sop.master:
            assert c.p_w == 0
            assert c.p_set_w == 0
        assert math.hypot(c.p_set_w, c.q_set_var) <= S * (1 + 1e-9)
        if c.mode is not Mode.VDC_DROOP and c is not sop.master:
            assert abs(c.p_w) <= 1.2 * S
    assert abs(math.fsum(rig.powers) + sop.loss_w) < 1e-3
    assert 0 <= sop.loss_w < 0.03 * S * sop.n


@example(actions=[("operate", [0, 0, 45_001]), ("silence", 6.0), ("master", 2)])
@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, min_size=1, max_size=25))
def test_any_course_keeps_the_promises(make_rig_cached, actions):
    rig = make_rig_cached()
    rig.step_us = 100_000
    for verb, detail in actions:
        match verb:
            case "operate":
                powers = list(detail)
                powers.insert(rig.sop.master_index, 0)
                rig.operate(powers)
            case "select":
                powers = list(detail)
                powers.insert(rig.sop.master_index, 0)
                rig.stage(powers)
                rig.command(7)
            case "modes":
                rig.operate([0, 0, 0, 0], modes=detail)
            case "command":
                rig.command(detail)
            case "master":
                rig.command(10, arg=detail)
            case "wait":
                rig.wait(detail, each=lambda: holds(rig))
            case "silence":
                rig.wait(detail, heartbeat=False, each=lambda: holds(rig))
            case "trip":
                rig.sop.trip(detail, Fault.INTERNAL)
            case "feeder":
                index, volts = detail
                rig.sop.converters[index].feeder_v_v = volts
            case "derate":
                index, ratio = detail
                rig.sop.converters[index].derate_ratio = ratio
            case _:
                rig.firmware.local = detail
    rig.wait(1, each=lambda: holds(rig))
    # In the end the controller falls silent: whatever came before, the power goes.
    rig.firmware.failsafe = rig.firmware.failsafe.__class__(1)
    rig.wait(5.1 + 5 + 1, heartbeat=False, each=lambda: holds(rig))
    for c in rig.sop.converters:
        if c is not rig.sop.master and c.mode in (Mode.P_Q, Mode.STATCOM):
            assert abs(c.p_w) <= 0.005 * S
            assert abs(c.q_var) <= 0.005 * S
