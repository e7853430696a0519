"""The state table: every transition it lists, and every pair it does not list is refused."""

import pytest

from firmware_sim.plant.states import (
    ENERGISED,
    MODULATING,
    TRANSITIONS,
    Event,
    IllegalTransitionError,
    OpState,
    advance,
    allows,
)

# The operating sequence as the manual prints it, written down a second time.
PATHS = [
    "OFF power_on INIT self_test_passed STOPPED start PRECHARGE precharged SYNC synchronised STANDBY",
    "STANDBY exit_standby RUN derate DERATED recover RUN enter_standby STANDBY",
    "STANDBY island ISLAND reconnect STANDBY",
    "RUN stop STOPPING ramped_down STOPPED maintain MAINT release STOPPED",
    "RUN fault FAULT reset STOPPED",
    "RUN hard_fault LOCKOUT local_reset STOPPED",
    "FAULT hard_fault LOCKOUT",
    "RUN estop ESTOP local_reset STOPPED",
    "DERATED enter_standby STANDBY stop STOPPING fault FAULT estop ESTOP power_off OFF",
    "PRECHARGE stop STOPPED",
    "SYNC stop STOPPED",
]


@pytest.mark.parametrize("path", PATHS)
def test_the_sequence_of_the_manual(path):
    words = path.split()
    state = OpState[words[0]]
    for event, after in zip(words[1::2], words[2::2], strict=True):
        state = advance(state, Event(event))
        assert state is OpState[after]


@pytest.mark.parametrize("state", OpState)
@pytest.mark.parametrize("event", Event)
def test_what_the_table_does_not_list_is_refused(state, event):
    if (state, event) in TRANSITIONS:
        assert allows(state, event)
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        assert not allows(state, event)
        with pytest.raises(IllegalTransitionError):
            advance(state, event)


def test_no_remote_event_leaves_estop_or_lockout():
    for shut in (OpState.ESTOP, OpState.LOCKOUT):
        ways = {event for (state, event) in TRANSITIONS if state is shut}
        assert ways <= {Event.LOCAL_RESET, Event.ESTOP, Event.POWER_OFF}


def test_only_run_states_modulate():
    assert MODULATING < ENERGISED
    assert OpState.STANDBY not in MODULATING


def test_every_state_can_be_reached():
    reached = {OpState.OFF}
    while True:
        more = {after for (state, _), after in TRANSITIONS.items() if state in reached}
        if more <= reached:
            break
        reached |= more
    assert reached == set(OpState)
