"""The path to the device: nothing without an intent, nothing twice, nothing guessed."""

from dataclasses import replace

import pytest
from fakes.core import make_site
from fakes.memory_journal import ManualClock, MemoryJournal
from fakes.station import FakePlant, FakeStation

from gateway.core.decide import Dispatch
from gateway.core.state import State
from gateway.devices.guard import GuardReason, GuardRefused
from gateway.model.errors import (
    BadAnswer,
    DeviceNotSent,
    DeviceRefused,
    JournalError,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command
from gateway.model.telemetry import State as StationState
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.recorder import Recorder

SETPOINTS = {"T1": 0, "T2": -50_000, "T3": 50_000, "T4": 0}


class Watched(FakeStation):
    """Remembers the order of calls and of entries; may fail once at a call."""

    def __init__(self, journal, **options):
        super().__init__(**options)
        self.journal, self.steps, self.trouble = journal, [], {}

    async def _step(self, name, call):
        self.steps.append((name, len(self.journal.written)))
        if (error := self.trouble.pop(name, None)) is not None:
            raise error
        return await call

    async def select(self, instruction):
        return await self._step("select", super().select(instruction))

    async def operate(self, instruction):
        return await self._step("operate", super().operate(instruction))

    async def staged_equals(self, instruction):
        return await self._step("staged_equals", super().staged_equals(instruction))


def rig(**options):
    clock = ManualClock()
    journal = MemoryJournal(clock)
    plant = FakePlant(clock=clock, state=StationState.RUN)
    station = Watched(journal, plant=plant, owner=make_site().owner_id, **options)
    recorder = Recorder(journal, State(make_site()))
    dispatcher = Dispatcher(station=station, recorder=recorder, site=make_site(), clock=clock)
    return dispatcher, station, journal, recorder, clock


def order(**changes):
    fields = {"setpoints": SETPOINTS, "authority": "plan", "plan_index": -1, "ttl_s": 60}
    return Dispatch(**(fields | changes))


async def ready(dispatcher):
    await dispatcher.configure(watchdog_ds=50, failsafe=1)


async def test_a_dispatch_leaves_intent_prepared_commit_and_outcome_in_this_order():
    dispatcher, station, journal, recorder, _ = rig()
    await ready(dispatcher)
    await station.read()
    await dispatcher.dispatch(order(), {})
    assert journal.kinds()[2:] == ["intent", "prepared", "commit", "outcome"]
    assert journal.written[-1]["outcome"] == "executed"
    assert recorder.state.held == SETPOINTS


async def test_a_terminal_derated_during_operate_is_executed_as_far_as_it_can():
    dispatcher, station, journal, recorder, _ = rig()
    await ready(dispatcher)
    await station.read()
    whole = station.read

    async def derated():
        seen = await whole()
        rows = [
            replace(t, s_va_available=30_000, p_w_set_active=30_000) if t.id == "T3" else t
            for t in seen.terminals
        ]
        return replace(seen, terminals=tuple(rows))

    station.read = derated
    await dispatcher.dispatch(order(), {})
    outcome = journal.written[-1]
    assert (outcome["outcome"], outcome["active"]["T3"]) == ("executed", 30_000)
    assert [r["code"] for r in outcome["reasons"]] == ["derated"]
    assert recorder.state.held == SETPOINTS  # what was sent: it comes back by itself
    assert recorder.state.active.instr_id == outcome["instr_id"]


async def test_no_byte_leaves_before_its_intent_is_durable():
    dispatcher, station, journal, _, _ = rig()
    await ready(dispatcher)
    await station.read()
    await dispatcher.dispatch(order(), {})
    steps = dict(station.steps)
    kinds = journal.kinds()
    assert "intent" in kinds[: steps["select"]][2:]
    assert "commit" in kinds[: steps["operate"]]


async def test_a_ledger_that_fails_lets_nothing_out():
    dispatcher, station, journal, _, _ = rig()
    journal.failing = True
    with pytest.raises(JournalError):
        await dispatcher.dispatch(order(), {})
    assert station.steps == []


@pytest.mark.parametrize(
    ("call", "error", "outcome"),
    [
        ("select", DeviceNotSent("s", "down"), "failed"),
        ("select", DeviceRefused("s", "busy", 6), "rejected"),
        ("select", OutcomeUnknown("s", "silent"), "unknown"),
        ("operate", OutcomeUnknown("s", "silent"), "unknown"),
        ("operate", BadAnswer("s", "foreign"), "unknown"),
        ("operate", DeviceNotSent("s", "down"), "failed"),
    ],
)
async def test_what_went_wrong_is_written_and_the_write_is_not_repeated(call, error, outcome):
    dispatcher, station, journal, recorder, _ = rig()
    await ready(dispatcher)
    await station.read()
    station.trouble[call] = error
    await dispatcher.dispatch(order(), {})
    assert journal.written[-1]["outcome"] == outcome
    assert [name for name, _ in station.steps].count(call) == 1
    assert bool(recorder.state.open_intents) is (outcome == "unknown")


async def test_a_staged_block_that_reads_back_otherwise_is_not_operated():
    dispatcher, station, journal, _, _ = rig()
    await ready(dispatcher)
    await station.read()

    async def differs(instruction):
        return False

    station.staged_equals = differs
    await dispatcher.dispatch(order(), {})
    assert journal.kinds()[-1] == "abort"
    assert "operate" not in dict(station.steps)


async def test_a_power_that_the_device_can_not_be_told_is_failed_not_the_end_of_the_gateway():
    dispatcher, station, journal, recorder, _ = rig()
    await ready(dispatcher)
    await station.read()

    def staged_block(_):
        raise GuardRefused("station", GuardReason.RANGE, "37543 is finer than the register's step")

    station.staged_block = staged_block
    await dispatcher.dispatch(order(), {})
    assert journal.kinds()[2:] == ["intent", "outcome"]
    assert journal.written[-2]["staged"] == ""
    assert journal.written[-1]["outcome"] == "failed"
    assert "finer" in journal.written[-1]["reasons"][0]["detail"]
    assert not any(recorder.state.held.values())


async def test_what_is_no_longer_permitted_at_the_wire_is_aborted():
    dispatcher, station, journal, _, _ = rig()
    await ready(dispatcher)
    await station.read()
    dispatcher.permitted = lambda: False
    await dispatcher.dispatch(order(), {})
    assert journal.kinds()[-1] == "abort"
    assert "operate" not in dict(station.steps)


async def test_the_way_to_zero_needs_no_permission():
    dispatcher, station, journal, _, _ = rig()
    await ready(dispatcher)
    await station.read()
    dispatcher.permitted = lambda: False
    zero = dict.fromkeys(SETPOINTS, 0)
    await dispatcher.dispatch(order(setpoints=zero, authority="failsafe"), {})
    assert journal.written[-1]["outcome"] == "executed"


async def test_operate_waits_selected_for_its_instant():
    dispatcher, station, journal, _, clock = rig()
    await ready(dispatcher)
    await station.read()
    act_ms = clock.utc_us() // 1000 + 2000
    await dispatcher.dispatch(order(act_ms=act_ms), {})
    commit = next(e for e in journal.written if e["kind"] == "commit")
    assert commit["utc_us"] == act_ms * 1000


async def test_every_instruction_has_an_id_of_its_own():
    dispatcher, station, journal, _, clock = rig()
    await ready(dispatcher)
    await station.read()
    for _ in range(3):
        await dispatcher.dispatch(order(), {})
        clock.now_us += 5_000_000
        await station.read()
    ids = [e["instr_id"] for e in journal.written if e["kind"] == "intent"]
    assert len(set(ids)) == len(ids)


async def test_stop_goes_to_the_device_and_not_by_the_ledger():
    dispatcher, _, journal, _, _ = rig()
    journal.failing = True
    assert await dispatcher.stop_now() in ("executed", "accepted")


async def test_a_command_is_recorded_like_an_instruction():
    dispatcher, _, journal, recorder, _ = rig()
    await dispatcher.command(Command.ENTER_STANDBY, "configure")
    assert journal.kinds() == ["intent", "outcome"]
    assert journal.written[0]["command"] == "ENTER_STANDBY"
    assert recorder.state.active is None


async def test_an_unanswered_configuration_is_unknown_not_failed():
    dispatcher, station, journal, recorder, _ = rig()

    async def silent(**_):
        raise OutcomeUnknown("s", "silent")

    station.configure = silent
    assert not await dispatcher.configure(watchdog_ds=50, failsafe=1)
    assert journal.written[-1]["outcome"] == "unknown"
    assert len(recorder.state.open_intents) == 1


class SlowDisk(MemoryJournal):
    """Every entry takes its time to become durable."""

    took_us = 0

    async def append(self, kind, fields):
        written = await super().append(kind, fields)
        self.clock.now_us += self.took_us
        return written


async def test_nothing_leaves_after_the_instruction_expired():
    dispatcher, station, _, _, clock = rig()
    await ready(dispatcher)
    await station.read()
    journal = SlowDisk(clock)
    late = Dispatcher(
        station=station,
        recorder=Recorder(journal, State(make_site())),
        site=make_site(),
        clock=clock,
    )
    journal.took_us = 2_600_000
    await late.dispatch(order(), {})
    assert journal.kinds() == ["intent", "abort"]
    assert journal.written[-1]["reasons"][0]["code"] == "expired"
    await late.command(Command.EXIT_STANDBY, "configure")
    assert journal.written[-1]["outcome"] == "expired"
    assert not await late.configure(watchdog_ds=50, failsafe=1)
    assert station.steps == []
    assert "EXIT_STANDBY" not in station.log


async def test_a_timed_instruction_lives_as_long_as_it_may_wait_selected():
    dispatcher, station, journal, _, clock = rig()
    await ready(dispatcher)
    await station.read()
    now_us = clock.mono_us()
    await dispatcher.dispatch(order(act_ms=clock.utc_us() // 1000 + 3000), {})
    intent = next(e for e in journal.written if e["kind"] == "intent" and e["setpoints"])
    assert intent["expires_mono_us"] == now_us + 7_500_000
    assert journal.written[-1]["outcome"] == "executed"


@pytest.mark.parametrize("lost_count", [0, 1, 2, 3])
async def test_a_stop_is_sent_again_when_it_was_lost(lost_count):
    dispatcher, station, journal, _, _ = rig()
    answers = [OutcomeUnknown("station", "no answer")] * lost_count

    async def command(what, argument=0):
        if answers:
            raise answers.pop()
        return await FakeStation.command(station, what, argument)

    station.command = command
    word = await dispatcher.stop_now()
    assert word == ("executed" if lost_count < 3 else "station: no answer")
    assert journal.kinds() == []  # and never by way of the ledger


def ways(station, answers):
    """What is sent to a station that answers like this."""
    sent = []

    async def command(what, argument=0):
        sent.append(what.name)
        answer = answers[len(sent) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    station.command = command
    return sent


@pytest.mark.parametrize(
    "first",
    [
        GuardRefused("station", GuardReason.LEASE, "held by 9"),
        OutcomeUnknown("station", "no answer"),
        Ack.REJECTED_LOCAL,
        Ack.REJECTED_STATE,
    ],
)
async def test_a_station_that_does_not_take_the_way_to_standby_is_told_to_stop(first):
    dispatcher, station, _, _, _ = rig()
    sent = ways(station, [first, first, Ack.EXECUTED])
    assert await dispatcher.stop_now() == "executed"
    assert sent == ["ENTER_STANDBY", "ENTER_STANDBY", "STOP"]


async def test_a_stop_without_an_answer_is_said_again_as_it_was():
    dispatcher, station, _, _, clock = rig()
    began_us = clock.mono_us()
    sent = ways(station, [OutcomeUnknown("station", "no answer"), Ack.EXECUTED])
    assert await dispatcher.stop_now() == "executed"
    assert sent == ["ENTER_STANDBY"] * 2
    assert clock.mono_us() - began_us >= 300_000  # a driver waits before its next try as well


async def test_converters_of_their_own_are_told_the_same_again():
    dispatcher, station, _, _, _ = rig()
    dispatcher._site = replace(dispatcher._site, separate=True)
    sent = ways(station, [Ack.REJECTED_STATE] * 3)
    assert await dispatcher.stop_now() == "rejected_state"
    assert sent == ["ENTER_STANDBY"] * 3


async def test_nothing_follows_a_stop_whose_entry_is_not_durable_yet():
    dispatcher, station, journal, _, clock = rig()
    await ready(dispatcher)
    await station.read()
    await dispatcher.stop_now()
    sent = len(station.log)
    await dispatcher.dispatch(order(), {})
    assert journal.kinds()[-2:] == ["intent", "abort"]
    assert journal.written[-1]["reasons"][0]["code"] == "operator"
    await dispatcher.command(Command.EXIT_STANDBY, "configure")
    assert not await dispatcher.configure(watchdog_ds=50, failsafe=1)
    assert station.log[sent:] == []
    clock.now_us += 5_000_000
    await station.read()
    await dispatcher.dispatch(order(), {})
    assert journal.written[-1]["outcome"] == "executed"
