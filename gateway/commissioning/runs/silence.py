"""Watchdog test on a real station: fall silent in one of four ways and watch from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.commissioning import watchdog
from gateway.commissioning.equipment import Rack, Say, silent
from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs.holding import LIFE_S
from gateway.commissioning.runs.person import Answer, Person
from gateway.commissioning.runs.steps import watching
from gateway.commissioning.sat.record import CheckOutcome, Row
from gateway.commissioning.session import ZERO_RATIO, Power, hold, ramp_s, timeout_found_s
from gateway.commissioning.watchdog import (
    Expectation,
    How,
    WatchdogResult,
    WatchdogSample,
    setting_finding,
)
from gateway.model.telemetry import StationTelemetry
from gateway.ports import Journal

AFTER_S = 4.0  # how long power must stay at zero once the master is heard again
SAMPLE_S = 0.05
BENCH_US = 1_000_000  # of real time: the shortest watchdog of a bench that runs fast
BENCH_TICK_US, BENCH_TICKS = 20_000, 3  # and how coarsely such a bench steps

Kill = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogOrder:
    """How the master falls silent, at which power, and what must happen."""

    how: How
    terminal: str
    p_w: int
    expectation: Expectation


def default_expectation(rack: Rack, terminal_id: str, p_w: int) -> Expectation:
    """Zero within the device's timeout, plus the ramp it is armed with, plus a second.

    A station that blocks has no ramp. Separate converters only ramp, whatever they are armed with.
    A bench that runs faster than real widens the timeout to a second of real time, so that a
    stall of the host never looks like a fault.
    """
    terminal = rack.equipment.sop.terminal(terminal_id)
    on_loss = None if rack.equipment.converters else rack.equipment.on_loss
    way_s = 0.0 if on_loss == "block" else ramp_s(rack.equipment.sop, terminal, p_w)
    timeout_s = max(rack.equipment.device_timeout_ms / 1000, rack.clock.at_least(BENCH_US) / 1e6)
    if timeout_s * 1000 > rack.equipment.device_timeout_ms:
        timeout_s += BENCH_TICKS * rack.clock.at_least(BENCH_TICK_US) / 1e6
    return Expectation(
        zero_within_s=timeout_s + way_s + 1.0,
        zero_band_w=ZERO_RATIO * terminal.s_va,
        on_loss=on_loss,
    )


async def as_found_s(rack: Rack) -> float | None:
    """Return the timeout the station held before this program wrote anything; None: not known."""
    return await timeout_found_s(rack)


async def run_watchdog(
    rack: Rack,
    order: WatchdogOrder,
    *,
    person: Person | None = None,
    hold_elsewhere: Callable[[], Awaitable[Kill]] | None = None,
    journal: Journal | None = None,
    say: Say = silent,
) -> WatchdogResult:
    """Put power on, fall silent, watch, speak again, watch that nothing comes back.

    ``hold_elsewhere`` starts another process that holds the power and returns what kills it.
    """
    name = rack.equipment.station.name
    found_s = await as_found_s(rack)
    declared_s = rack.equipment.device_timeout_ms / 1000
    setting = (
        setting_finding(name, timeout_s=found_s, declared_s=declared_s)
        if found_s is not None
        else None
    )
    if setting is not None and setting.code == "watchdog-disabled":
        return watchdog.judge(
            name, order.how, [], t_silent_s=0.0, t_back_s=None,
            expectation=order.expectation, setting=setting,
        )  # fmt: skip
    if order.how is How.KILL_SERVICE:
        assert hold_elsewhere is not None
        spans = await _killed(rack, order, hold_elsewhere, journal, say)
    else:
        spans = await _silent_here(rack, order, person, journal, say)
    if spans.note:
        return WatchdogResult(
            how=order.how,
            verdict=Verdict.UNDECIDED,
            zero_after=None,
            findings=(setting,) if setting else (),
            note=spans.note,
        )
    return watchdog.judge(
        name,
        order.how,
        spans.samples,
        t_silent_s=spans.t_silent_s,
        t_back_s=spans.t_back_s,
        expectation=order.expectation,
        setting=setting,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spans:
    samples: list[WatchdogSample]
    t_silent_s: float
    t_back_s: float | None
    note: str = ""  # why nothing can be judged


def _untried(note: str) -> _Spans:
    return _Spans(samples=[], t_silent_s=0.0, t_back_s=None, note=note)


async def _silent_here(
    rack: Rack, order: WatchdogOrder, person: Person | None, journal: Journal | None, say: Say
) -> _Spans:
    terminal = rack.equipment.sop.terminal(order.terminal)
    async with (
        watching(rack, order.terminal, period_s=SAMPLE_S) as watch,
        hold(rack, journal=journal, say=say) as session,
    ):
        # It outlives the silence: its own end must not stand in for the watchdog.
        life_s = LIFE_S + round(order.expectation.zero_within_s)
        await session.set({order.terminal: Power(p_w=order.p_w)}, life_s=life_s)
        await rack.pause(ramp_s(rack.equipment.sop, terminal, order.p_w) + 2.0)
        t_back_s: float | None
        if order.how is How.UNPLUG:
            assert person is not None
            answer = await person.ask("Pull the network cable of the gateway, then go on")
            if answer is not Answer.DONE:
                return _untried("the cable was not pulled")
            t_silent_s, t_back_s = rack.now_s(), None
            await rack.pause(order.expectation.zero_within_s + 1.0)
            answer = await person.ask("Plug the cable in again, then go on")
            if answer is not Answer.DONE:
                return _untried("the cable was not plugged in again")
            session.silent = True
            await rack.pause(1.0)
        else:
            session.silent = True
            t_silent_s = rack.now_s()
            if order.how is How.DROP_LINK:
                await session.drop()
            say("silent now")
            await rack.pause(order.expectation.zero_within_s + 1.0)
            if order.how is How.DROP_LINK:
                session.connect()
            t_back_s = rack.now_s()
        session.silent = False
        say("speaking again; nothing may come back by itself")
        await rack.pause(AFTER_S)
        return _Spans(
            samples=_samples(watch.seen, order.terminal),
            t_silent_s=t_silent_s,
            t_back_s=t_back_s,
        )


async def _killed(
    rack: Rack,
    order: WatchdogOrder,
    hold_elsewhere: Callable[[], Awaitable[Kill]],
    journal: Journal | None,
    say: Say,
) -> _Spans:
    """Another process holds the power and is killed; this one only reads, then takes over."""
    async with watching(rack, order.terminal, period_s=SAMPLE_S) as watch:
        kill = await hold_elsewhere()
        await kill()
        t_silent_s = rack.now_s()
        say("the process that held the power is dead")
        await rack.pause(order.expectation.zero_within_s + 1.0)
        t_back_s = rack.now_s()
        async with hold(rack, journal=journal, say=say):
            await rack.pause(AFTER_S)
            samples = _samples(watch.seen, order.terminal)
    return _Spans(samples=samples, t_silent_s=t_silent_s, t_back_s=t_back_s)


def _samples(seen: list[tuple[float, StationTelemetry]], terminal_id: str) -> list[WatchdogSample]:
    return [
        WatchdogSample(
            t_s=telemetry.mono_us / 1e6,
            p_w=float(next(t.p_w for t in telemetry.terminals if t.id == terminal_id)),
        )
        for _width_s, telemetry in seen
    ]


def watchdog_outcome(
    result: WatchdogResult, order: WatchdogOrder, found_s: float | None
) -> CheckOutcome:
    """Put a result into the words of the record."""
    zero = "not reached" if result.zero_after is None else str(result.zero_after)
    note = f"{order.p_w / 1000:+.0f} kW at {order.terminal}"
    if result.verdict is Verdict.UNDECIDED and result.zero_after is not None:
        note += "; nobody looked often enough to tell: the device's own display or log may"
    if result.note:
        note += f"; {result.note}"
    disabled = any(f.code == "watchdog-disabled" for f in result.findings)
    on_loss = order.expectation.on_loss
    rows = []
    if found_s is not None:
        rows.append(
            Row(
                name="timeout as found",
                value_text=f"{found_s:.1f} s",
                limit="> 0 s",
                verdict=Verdict.FAULT if disabled else Verdict.OK,
            )
        )
    elif on_loss is not None:
        rows.append(Row(name="timeout as found", value_text="not known", verdict=Verdict.UNDECIDED))
    reaction = "" if on_loss is None else f", {on_loss}"
    rows.append(
        Row(
            name=f"{result.how}{reaction}: at zero after",
            value_text="not tried" if disabled or result.note else zero,
            limit=f"≤ {order.expectation.zero_within_s:.1f} s",
            verdict=result.verdict,
        )
    )
    return CheckOutcome(
        verdict=result.verdict,
        rows=tuple(rows),
        findings=result.findings,
        note=note,
    )
