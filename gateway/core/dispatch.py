"""Life of one instruction: everything that changes its phase stands in this one table."""

from __future__ import annotations

import enum


class Phase(enum.StrEnum):
    """Where an instruction is between intent and outcome."""

    INTENDED = "intended"
    PREPARED = "prepared"
    COMMITTED = "committed"
    EXECUTED = "executed"
    ABORTED = "aborted"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Event(enum.StrEnum):
    """What can happen to it; the words of the ledger."""

    PREPARED = "prepared"
    COMMIT = "commit"
    ABORT = "abort"
    EXECUTED = "executed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    FAILED = "failed"
    UNKNOWN = "unknown"


_ENDS = {
    Event.REJECTED: Phase.REJECTED,
    Event.EXPIRED: Phase.EXPIRED,
    Event.FAILED: Phase.FAILED,
    Event.UNKNOWN: Phase.UNKNOWN,
}
TRANSITIONS: dict[Phase, dict[Event, Phase]] = {
    Phase.INTENDED: {
        Event.PREPARED: Phase.PREPARED,
        Event.ABORT: Phase.ABORTED,
        Event.EXECUTED: Phase.EXECUTED,  # commands without staging: START, EXIT_STANDBY, CONFIGURE
        **_ENDS,
    },
    Phase.PREPARED: {Event.COMMIT: Phase.COMMITTED, Event.ABORT: Phase.ABORTED, **_ENDS},
    Phase.COMMITTED: {Event.EXECUTED: Phase.EXECUTED, **_ENDS},
    # Only reading the device back ends what is unknown.
    Phase.UNKNOWN: {Event.EXECUTED: Phase.EXECUTED, Event.FAILED: Phase.FAILED},
    Phase.EXECUTED: {},
    Phase.ABORTED: {},
    Phase.REJECTED: {},
    Phase.EXPIRED: {},
    Phase.FAILED: {},
}
OPEN = frozenset({Phase.INTENDED, Phase.PREPARED, Phase.COMMITTED, Phase.UNKNOWN})


class IllegalTransitionError(AssertionError):
    """An event came in a phase that does not know it: a bug, the gateway stops."""


def advance(phase: Phase, event: Event) -> Phase:
    """Return the next phase; raise IllegalTransitionError for an event that cannot happen here."""
    after = TRANSITIONS[phase].get(event)
    if after is None:
        raise IllegalTransitionError(f"{event.value} in phase {phase.value}")
    return after
