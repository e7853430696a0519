import pytest

from firmware_sim.plant.states import Event
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import panel
from gateway.commissioning.runs.person import Answer
from gateway.commissioning.session import NotBack, Session
from gateway.model.errors import OutcomeUnknown
from gateway.model.setpoint import Command


def codes(outcome):
    return [(f.code, f.where) for f in outcome.findings]


async def test_signals_follow_the_person_at_the_panel(bench):
    async with bench() as b:
        writes = b.site.write_count
        outcome = await panel.run_signals(b.rack, b.person, panel.chosen(()))
        assert b.site.write_count == writes
    assert (outcome.verdict, codes(outcome)) == (Verdict.OK, [])
    assert [r.value_text for r in outcome.rows] == ["inactive → active → inactive"] * 2
    assert any("seen: inactive → active" in t for t in b.person.told)


async def test_a_contact_wired_the_wrong_way_is_named(bench):
    async with bench("door") as b:
        outcome = await panel.run_signals(b.rack, b.person, panel.chosen(["interlock"]))
    assert codes(outcome) == [("signal-inverted", "station interlock")]
    assert outcome.findings[0].punch == "A"


async def test_a_signal_nobody_moves_is_dead(bench):
    async with bench() as b:
        b.person.site = type("Nobody", (), {"panel": lambda self, word: None})()
        outcome = await panel.run_signals(b.rack, b.person, panel.chosen(["local"]), wait_s=0.5)
    assert codes(outcome) == [("signal-dead", "station local")]


async def test_skipping_is_undecided_and_failing_is_a_fault(bench):
    async with bench() as b:
        for answer, verdict in (
            (Answer.SKIP, Verdict.UNDECIDED),
            (Answer.FAIL, Verdict.FAULT),
            (Answer.QUIT, Verdict.UNDECIDED),
        ):
            b.person.answer = answer
            outcome = await panel.run_signals(b.rack, b.person, panel.chosen(["local"]))
            assert outcome.verdict is verdict


async def test_the_station_itself_refuses_while_local(bench):
    async with bench() as b:
        outcome = await panel.run_interlocks(b.rack, b.person, panel.chosen(["local", "estop"]))
    assert outcome.verdict is Verdict.OK
    assert [r.value_text for r in outcome.rows] == [
        "blocked-by-switching-hierarchy", "blocked-by-process",
    ]  # fmt: skip


async def test_a_station_that_does_not_heed_local_is_found(bench):
    async with bench() as b:
        firmware = b.site.device.firmware

        class Deaf:
            def panel(self, word):
                b.site.station.more_bits = (1 << 12) if word == "local" else 0

        b.person.site = Deaf()
        outcome = await panel.run_interlocks(b.rack, b.person, panel.chosen(["local"]))
        assert not firmware.local
    assert codes(outcome) == [("interlock-open", "station local")]


async def test_the_emergency_stop_is_watched_and_behaves(bench):
    async with bench(factor=5) as b:
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
    assert (outcome.verdict, codes(outcome)) == (Verdict.OK, []), outcome.rows
    assert len(outcome.rows) == 4


async def test_an_emergency_stop_that_stops_nothing_is_found(bench):
    async with bench(factor=10) as b:
        b.person.site = type("Cut", (), {"panel": lambda self, word: None})()
        panel_wait, panel.WAIT_S = panel.WAIT_S, 1.0
        try:
            outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
        finally:
            panel.WAIT_S = panel_wait
        assert all(abs(p) < 2500 for p in b.powers_w[1:])
    assert {"estop-unseen", "estop-slow", "estop-open"} <= {c for c, _ in codes(outcome)}


async def test_what_was_found_before_somebody_left_early_is_kept(bench):
    async with bench("door") as b:
        ask, answers = b.person.ask, [Answer.DONE, Answer.DONE, Answer.QUIT]

        async def leaving(what):
            await ask(what)
            return answers.pop(0)

        b.person.ask = leaving
        outcome = await panel.run_signals(b.rack, b.person, panel.chosen(["interlock", "local"]))
    assert (outcome.verdict, outcome.note) == (Verdict.FAULT, "left early")
    assert codes(outcome) == [("signal-inverted", "station interlock")]


async def test_a_station_that_refuses_anyway_says_nothing_of_its_interlock(bench):
    async with bench() as b:
        await b.rack.station().read()
        await b.rack.station().command(Command.STOP)
        outcome = await panel.run_interlocks(b.rack, b.person, panel.chosen(["local"]))
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, [])
    assert outcome.rows[0].value_text == "refused at rest: blocked-by-process"
    assert b.person.asked == []


class Stopper:
    """Somebody who stops the station instead of moving the switch; a wrong bit may come along."""

    def __init__(self, site, bits):
        self.site, self.bits = site, bits

    def panel(self, word):
        if word == "local":
            self.site.station.more_bits = self.bits
            self.site.device.firmware.drop_setpoints()
            for index in range(self.site.device.sop.n):
                self.site.device.sop.raise_event(index, Event.STOP)
        else:
            self.site.station.more_bits = 0


async def test_an_interlock_whose_contact_is_dead_is_found_though_something_refused(bench):
    async with bench() as b:
        b.person.site = Stopper(b.site, 0)
        outcome = await panel.run_interlocks(b.rack, b.person, panel.chosen(["local"]), wait_s=0.5)
    assert codes(outcome) == [("signal-dead", "station local")]


async def test_a_refusal_for_another_reason_than_local_is_undecided(bench):
    async with bench() as b:
        b.person.site = Stopper(b.site, 1 << 12)
        outcome = await panel.run_interlocks(b.rack, b.person, panel.chosen(["local"]), wait_s=0.5)
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, [])
    assert outcome.rows[0].value_text == "blocked-by-process"


def slowly(b, seconds, meanwhile=lambda: None):
    """A person who takes so long to reach the panel."""
    ask = b.person.ask

    async def asked(what):
        if what.startswith("Press"):
            meanwhile()
            await b.rack.pause(seconds)
        return await ask(what)

    b.person.ask = asked


async def test_power_is_kept_up_while_a_person_walks_to_the_panel(bench, monkeypatch):
    monkeypatch.setattr(panel, "LIFE_S", 6)
    monkeypatch.setattr(panel, "RENEW_S", 2.0)
    async with bench(factor=5) as b:
        slowly(b, 14.0)
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
        assert (outcome.verdict, codes(outcome)) == (Verdict.OK, []), outcome.rows


async def test_power_that_ended_before_the_stop_was_pressed_says_nothing_of_the_stop(bench):
    async with bench(factor=5) as b:
        device = b.site.device

        def stops():
            device.firmware.drop_setpoints()

        slowly(b, 4.0, meanwhile=stops)
        operated = device.firmware.counters.operate_count
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
        assert device.firmware.counters.operate_count == operated + 1, "what ended is not renewed"
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, []), outcome.rows
    assert outcome.rows[0].value_text == "no power when it was pressed"


async def test_power_that_does_not_come_back_to_zero_is_told_as_it_is(bench):
    async with bench(factor=10) as b:
        b.person.answer = Answer.SKIP
        ask = b.person.ask

        async def asked(what):
            b.site.device.firmware.local = True
            return await ask(what)

        b.person.ask = asked
        with pytest.raises(NotBack):
            await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)


def answering(b, *answers):
    """A person who answers so, one question after the other, and does only what is done."""
    ask, left = b.person.ask, list(answers)

    async def asked(what):
        b.person.answer = left.pop(0)
        return await ask(what)

    b.person.ask = asked


async def test_what_fails_at_the_panel_opens_a_punch_item(bench):
    async with bench() as b:
        b.person.answer = Answer.FAIL
        for run in (panel.run_signals, panel.run_interlocks):
            outcome = await run(b.rack, b.person, panel.chosen(["local"]))
            assert (outcome.verdict, codes(outcome)) == (
                Verdict.FAULT, [("signal-failed", "station local")],
            )  # fmt: skip
            assert outcome.findings[0].punch == "A"


async def test_an_emergency_stop_that_fails_is_a_fault_not_one_that_nobody_pressed(bench):
    async with bench(factor=10) as b:
        b.person.answer = Answer.FAIL
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
        assert (outcome.verdict, codes(outcome)) == (
            Verdict.FAULT, [("estop-failed", "emergency stop")],
        )  # fmt: skip
        assert outcome.findings[0].punch == "A"
        b.person.answer = Answer.SKIP
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
    assert (outcome.verdict, outcome.note) == (Verdict.UNDECIDED, "not pressed")


async def test_a_test_write_that_nobody_answered_is_no_refusal(bench, monkeypatch):
    put, told = Session.set, []

    async def lost(self, powers, **more):
        told.append(powers)
        if len(told) == 2:  # the first brought the power on, the third takes it back
            raise OutcomeUnknown("station", "no answer")
        return await put(self, powers, **more)

    monkeypatch.setattr(Session, "set", lost)
    async with bench(factor=5) as b:
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, [])
    row = next(r for r in outcome.rows if r.name == "a test write was")
    assert row.value_text == "not known to be refused: no answer"


async def test_an_emergency_stop_that_nobody_released_leaves_what_follows_undecided(bench):
    async with bench(factor=5) as b:
        answering(b, Answer.DONE, Answer.SKIP)
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
    assert (outcome.verdict, codes(outcome)) == (Verdict.UNDECIDED, [])
    assert outcome.note == "the emergency stop was not released"
    assert outcome.rows[-1].value_text == "not released"


async def test_an_emergency_stop_that_stays_active_after_its_release_is_stuck(bench):
    async with bench(factor=10) as b:
        site = b.person.site

        class Welded:
            def panel(self, word):
                if word == "press":
                    site.panel(word)

        b.person.site = Welded()
        outcome = await panel.run_estop(b.rack, b.person, terminal="T2", p_w=10_000)
    assert (outcome.verdict, codes(outcome)) == (
        Verdict.FAULT, [("signal-stuck", "station estop")],
    )  # fmt: skip
    assert outcome.findings[0].punch == "A"
