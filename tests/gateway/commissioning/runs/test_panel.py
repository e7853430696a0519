from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs import panel
from gateway.commissioning.runs.person import Answer


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
