"""The stop that finds no gateway: it leaves whatever the station says, or does not say, first."""

import pytest
from fakes.memory_journal import ManualClock

from gateway.cli.stop import to_zero
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import DeviceNotSent, OutcomeUnknown
from gateway.model.setpoint import Ack, Command

MUTE = DeviceNotSent("T3", "no connection")
FOREIGN = GuardRefused("station", GuardReason.LEASE, "held by 1447")
UNANSWERED = OutcomeUnknown("station", "no answer")


class Station:
    """Answers each command with what is given; remembers what it was told."""

    def __init__(self, *answers, read=None):
        self.answers, self.told, self.trouble = list(answers), [], read

    async def read(self):
        if self.trouble is not None:
            raise self.trouble

    async def command(self, command):
        self.told.append(command)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_station_that_cannot_be_read_is_told_all_the_same():
    station = Station(Ack.EXECUTED, read=MUTE)
    assert await to_zero(station, ManualClock(), separate=False) == "executed"
    assert station.told == [Command.ENTER_STANDBY]


@pytest.mark.parametrize("first", [FOREIGN, UNANSWERED, Ack.REJECTED_LEASE, Ack.REJECTED_STATE])
async def test_a_station_that_does_not_take_the_way_to_standby_is_told_to_stop(first):
    station = Station(first, first, Ack.EXECUTED)
    assert await to_zero(station, ManualClock(), separate=False) == "executed"
    assert station.told == [Command.ENTER_STANDBY, Command.ENTER_STANDBY, Command.STOP]


async def test_of_separate_converters_no_contactor_opens_because_one_is_mute():
    station = Station(UNANSWERED, UNANSWERED, Ack.EXECUTED, read=MUTE)
    assert await to_zero(station, ManualClock(), separate=True) == "executed"
    assert station.told == [Command.ENTER_STANDBY] * 3


async def test_a_station_that_says_nothing_at_all_is_said_to_be_unknown():
    station = Station(UNANSWERED, MUTE, MUTE, read=MUTE)
    assert "no connection" in await to_zero(station, ManualClock(), separate=False)
    assert len(station.told) == 3
