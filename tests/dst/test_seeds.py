"""A fixed set of seeds on every run: nothing breaks, and each replays to the same byte."""

import logging

import pytest
from dst.loop import NothingScheduledError, run_virtual
from dst.world import Setting, run


@pytest.fixture(autouse=True)
def quiet_log():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


FOUND = {
    1: 15, 7: 15,
    3: 15, 8: 8, 9: 8,  # an unknown outcome ended twice
    19: 17,  # giving way to the master, a derated terminal was asked for more
    27: 12,  # the master beyond its rating between two plans
    122: 6,  # a clock set there and back between two scans
}  # fmt: skip


SEPARATE = {
    1: 8,
    43: 21,  # a step made for what was read before a trip; a late write taken for arrived (122)
    122: 20,
    19: 13,  # steps from what a derated converter had been told, not from what it held
    163: 23,  # a fail-safe's step raised what had fallen, behind a converter that stood still
}  # fmt: skip


@pytest.mark.parametrize(("seed", "minutes"), SEPARATE.items())
def test_no_invariant_breaks_where_each_terminal_has_a_controller(seed, minutes):
    outcome = run(Setting(seed=seed, minutes=minutes, separate=True))
    again = f"python tests/dst/run.py --separate --seed {seed} --minutes {minutes} --hours 0.1"
    assert outcome.broken == [], again
    assert outcome.checked_count > 100


@pytest.mark.parametrize(("seed", "minutes"), FOUND.items())
def test_no_invariant_breaks(seed, minutes):
    outcome = run(Setting(seed=seed, minutes=minutes))
    again = f"python tests/dst/run.py --seed {seed} --minutes {minutes} --hours 0.1"
    assert outcome.broken == [], again
    assert outcome.checked_count > 100
    assert any(e["kind"] == "delivery" for e in outcome.entries) or minutes < 10


def test_a_seed_replays_to_the_byte():
    first, again = (run(Setting(seed=5, minutes=8, gap_s=20)) for _ in range(2))
    assert first.trace == again.trace
    assert first.digest == again.digest
    other = run(Setting(seed=6, minutes=8, gap_s=20))
    assert other.digest != first.digest


def test_without_faults_every_trade_is_delivered():
    outcome = run(Setting(seed=2, minutes=20, faults=(), mischief=False, length_s=300))
    assert outcome.broken == []
    trades = [t for d in outcome.deliveries for t in d["trades"]]
    curtailed = [t for t in trades if t["planned_wh"] < t["contracted_wh"]]
    assert len(trades) > 5
    assert {t["status"] for t in trades if t not in curtailed} == {"delivered"}


def test_without_faults_every_trade_is_delivered_by_steps_too():
    setting = Setting(
        seed=2, minutes=20, faults=(), mischief=False, length_s=300, separate=True
    )  # fmt: skip
    outcome = run(setting)
    assert outcome.broken == []
    assert any(e["kind"] == "intent" and e.get("toward") for e in outcome.entries)
    trades = [t for d in outcome.deliveries for t in d["trades"]]
    off_wh = [abs(t["delivered_wh"] - t["planned_wh"]) for t in trades]
    assert len(trades) > 5
    assert sorted(off_wh)[len(off_wh) * 3 // 4] <= 10


def test_a_loop_with_nothing_to_do_says_so():
    async def stuck(loop):
        await loop.create_future()

    with pytest.raises(NothingScheduledError):
        run_virtual(stuck)


def test_hours_pass_in_no_time():
    async def wait(loop):
        import asyncio

        await asyncio.sleep(36_000)
        return loop.now_us

    assert run_virtual(wait) == 36_000_000_000
