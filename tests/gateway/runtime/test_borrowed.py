"""What a session that borrowed control may write: nothing that moves power past a limit."""

from dataclasses import replace

import pytest
from fakes.core import make_site

from gateway.core.state import State
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.runtime.borrowed import BadRecord, checked_record

SOP = make_site().sop
NOW_MS = 1_800_000_000_000


def intent(ttl_s=10, **powers_w):
    setpoints = [
        {"terminal": t, "mode": "p_q", "p_w": p_w, "q_var": 0} for t, p_w in powers_w.items()
    ]
    return {
        "sop": "SOP-1", "instr_id": 7, "authority": "operator", "plan_index": -1,
        "setpoints": setpoints, "ramp_permille_per_s": 200, "ttl_s": ttl_s, "staged": "",
        "expires_mono_us": 0,
    }  # fmt: skip


def told(state, fields):
    request = {"verb": "record", "kind": "intent", "fields": fields}
    return checked_record(request, state, (), user="uid:1", utc_ms=NOW_MS)


def sent(domain, p_w_min, p_w_max, *, begin_s=-60, end_s=60):
    span = Interval(NOW_MS + 1000 * begin_s, NOW_MS + 1000 * end_s)
    return FeederLimits(
        site="bench", sop="SOP-1", sequence_number=1, created_utc_ms=NOW_MS, valid=span,
        limits=(FeederLimit(domain=domain, p_w_min=p_w_min, p_w_max=p_w_max),),
    )  # fmt: skip


@pytest.fixture
def state():
    return State(make_site())


def test_the_master_is_held_to_its_limits_by_what_the_others_leave_it(state):
    master = SOP.terminal(SOP.master)
    limited = SOP.limited(master.id, p_w_min=-100_000, p_w_max=60_000)
    narrow = State(replace(make_site(), sop=limited))
    for powers_w, good in (
        ({"T2": 100_000}, True),
        ({"T2": 101_000}, False),
        ({"T2": 60_000, "T3": 60_000}, False),
        ({"T2": 200_000, "T3": -120_000}, True),
        ({"T2": -60_000}, True),
        ({"T2": -61_000}, False),
        ({"T2": 0}, True),
    ):
        told(state, intent(**powers_w))
        if good:
            told(narrow, intent(**powers_w))
            continue
        with pytest.raises(BadRecord, match=master.id):
            told(narrow, intent(**powers_w))


def test_a_system_operators_limit_holds_for_a_borrowed_session_too(state):
    state.feeder_limits = sent(SOP.terminal("T3").domain, -20_000, 40_000)
    told(state, intent(T3=40_000))
    told(state, intent(T2=50_000))
    with pytest.raises(BadRecord, match="T3 is limited to -20000 … 40000 W"):
        told(state, intent(T3=40_001))


def test_a_limit_that_begins_while_the_setpoint_lives_holds_already(state):
    state.feeder_limits = sent(SOP.terminal("T3").domain, 0, 0, begin_s=30)
    told(state, intent(T3=40_000, ttl_s=30))
    with pytest.raises(BadRecord, match="T3"):
        told(state, intent(T3=40_000, ttl_s=31))


def test_at_the_masters_feeder_the_losses_count_and_zero_is_always_allowed(state):
    state.feeder_limits = sent(SOP.terminal(SOP.master).domain, -50_000, 50_000)
    told(state, intent(T2=-50_000))
    told(state, intent(T2=40_000))
    with pytest.raises(BadRecord, match=SOP.master):
        told(state, intent(T2=50_000))
    state.feeder_limits = sent(SOP.terminal(SOP.master).domain, 0, 0)
    told(state, intent(T2=0, ttl_s=0))
