"""Operating states of a terminal and of the station: one table, one ``advance``."""

from __future__ import annotations

import enum


class OpState(enum.IntEnum):
    """Operating state, numbered as the register prints it."""

    OFF = 0
    INIT = 1
    STOPPED = 2
    PRECHARGE = 3
    SYNC = 4
    STANDBY = 5
    RUN = 6
    DERATED = 7
    STOPPING = 8
    FAULT = 9
    LOCKOUT = 10
    ESTOP = 11
    MAINT = 12
    ISLAND = 13


class Event(enum.Enum):
    """What may move a terminal from one state to another."""

    POWER_ON = "power_on"
    POWER_OFF = "power_off"
    SELF_TEST_PASSED = "self_test_passed"
    START = "start"
    PRECHARGED = "precharged"
    SYNCHRONISED = "synchronised"
    EXIT_STANDBY = "exit_standby"
    ENTER_STANDBY = "enter_standby"
    DERATE = "derate"
    RECOVER = "recover"
    STOP = "stop"
    RAMPED_DOWN = "ramped_down"
    FAULT = "fault"
    HARD_FAULT = "hard_fault"
    RESET = "reset"
    LOCAL_RESET = "local_reset"
    ESTOP = "estop"
    MAINTAIN = "maintain"
    RELEASE = "release"
    ISLAND = "island"
    RECONNECT = "reconnect"


S, V = OpState, Event
ENERGISED = frozenset({S.STANDBY, S.RUN, S.DERATED, S.STOPPING, S.ISLAND})
MODULATING = frozenset({S.RUN, S.DERATED, S.STOPPING, S.ISLAND})
_TRIPPABLE = (S.PRECHARGE, S.SYNC, S.STANDBY, S.RUN, S.DERATED, S.STOPPING, S.ISLAND)
_LIVE = (S.INIT, S.STOPPED, *_TRIPPABLE)

TRANSITIONS: dict[tuple[OpState, Event], OpState] = {
    (S.OFF, V.POWER_ON): S.INIT,
    (S.INIT, V.SELF_TEST_PASSED): S.STOPPED,
    (S.STOPPED, V.START): S.PRECHARGE,
    (S.STOPPED, V.MAINTAIN): S.MAINT,
    (S.MAINT, V.RELEASE): S.STOPPED,
    (S.PRECHARGE, V.PRECHARGED): S.SYNC,
    (S.PRECHARGE, V.STOP): S.STOPPED,
    (S.SYNC, V.SYNCHRONISED): S.STANDBY,
    (S.SYNC, V.STOP): S.STOPPED,
    (S.STANDBY, V.EXIT_STANDBY): S.RUN,
    (S.STANDBY, V.ISLAND): S.ISLAND,
    (S.STANDBY, V.STOP): S.STOPPING,
    (S.RUN, V.ENTER_STANDBY): S.STANDBY,
    (S.RUN, V.DERATE): S.DERATED,
    (S.RUN, V.STOP): S.STOPPING,
    (S.DERATED, V.RECOVER): S.RUN,
    (S.DERATED, V.ENTER_STANDBY): S.STANDBY,
    (S.DERATED, V.STOP): S.STOPPING,
    (S.ISLAND, V.RECONNECT): S.STANDBY,
    (S.ISLAND, V.STOP): S.STOPPING,
    (S.STOPPING, V.RAMPED_DOWN): S.STOPPED,
    (S.FAULT, V.RESET): S.STOPPED,
    (S.FAULT, V.HARD_FAULT): S.LOCKOUT,
    (S.LOCKOUT, V.LOCAL_RESET): S.STOPPED,
    (S.ESTOP, V.LOCAL_RESET): S.STOPPED,
    **{(state, V.FAULT): S.FAULT for state in _TRIPPABLE},
    **{(state, V.HARD_FAULT): S.LOCKOUT for state in _LIVE},
    **{(state, V.ESTOP): S.ESTOP for state in (*_LIVE, S.FAULT, S.LOCKOUT, S.MAINT)},
    **{(state, V.POWER_OFF): S.OFF for state in S if state is not S.OFF},
}


class IllegalTransitionError(Exception):
    """The event has no meaning in this state; the firmware must not have raised it."""

    def __init__(self, state: OpState, event: Event) -> None:
        super().__init__(f"{event.value} in {state.name}")
        self.state = state
        self.event = event


def advance(state: OpState, event: Event) -> OpState:
    """The state after the event."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(state, event) from None


def allows(state: OpState, event: Event) -> bool:
    """Whether the table knows the event in this state."""
    return (state, event) in TRANSITIONS
