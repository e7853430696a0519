"""The life of an instruction is the table and nothing else."""

import pytest

from gateway.core.dispatch import OPEN, TRANSITIONS, Event, IllegalTransitionError, Phase, advance


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("event", Event)
def test_every_pair_is_either_in_the_table_or_refused(phase, event):
    if event in TRANSITIONS[phase]:
        assert advance(phase, event) is TRANSITIONS[phase][event]
    else:
        with pytest.raises(IllegalTransitionError, match=event.value):
            advance(phase, event)


def test_the_usual_life():
    phase = Phase.INTENDED
    for event in (Event.PREPARED, Event.COMMIT, Event.EXECUTED):
        phase = advance(phase, event)
    assert phase is Phase.EXECUTED


def test_what_is_unknown_ends_only_by_a_verdict_about_the_device():
    assert set(TRANSITIONS[Phase.UNKNOWN]) == {Event.EXECUTED, Event.FAILED}


def test_no_instruction_is_operated_without_a_commit():
    assert Event.EXECUTED not in TRANSITIONS[Phase.PREPARED]


def test_every_open_phase_can_end_and_no_closed_one_goes_on():
    for phase in Phase:
        assert bool(TRANSITIONS[phase]) is (phase in OPEN)
