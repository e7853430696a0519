"""Checks and tests by name: what each would move, and how it is carried out.

The commands ``sopgw check …`` and ``sopgw test …`` and the steps of an acceptance plan meet here.
Imported inside commands only.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.cli.field import Field, known_device, known_terminal, progress
from gateway.cli.hold_elsewhere import hold_elsewhere
from gateway.cli.output import ExitCode, fail, say
from gateway.cli.preview import Targets
from gateway.commissioning import sweep
from gateway.commissioning.runs import panel, passive, silence, steps, wire
from gateway.commissioning.runs.holding import HoldOrder, run_hold
from gateway.commissioning.runs.silence import WatchdogOrder
from gateway.commissioning.runs.steps import StepOrder, SweepOrder
from gateway.commissioning.runs.wire import WiringOrder
from gateway.commissioning.sat.record import CheckOutcome
from gateway.commissioning.session import Power
from gateway.commissioning.watchdog import How
from gateway.model.capability import Capability
from gateway.runtime.clock import BenchClock

Parameters = Mapping[str, Any]
Run = Callable[[Field, Parameters], Awaitable[CheckOutcome]]
Moves = Callable[[Field, Parameters], Targets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One check or test: how it runs, and where it moves what (None: it only reads).

    One for a ``station`` is refused where the terminals have converters of their own.
    """

    run: Run
    moves: Moves | None = None
    lines: Callable[[Field, Parameters], list[str]] | None = None
    station: bool = False


# Checks that only read


async def _signs(field: Field, given: Parameters) -> CheckOutcome:
    meters = [given["device"]] if given["device"] else list(field.equipment.meters)
    outcomes = []
    for meter in meters:
        _known_meter(field, meter)
        outcomes.append(await passive.sign_check(field.rack, meter, span_s=given["span"] / 1000))
    return joined(meters, outcomes)


def _known_meter(field: Field, name: str) -> str:
    """Return the name if it is a meter's; exit 2 otherwise."""
    if known_device(field, name) not in field.equipment.meters:
        meters = ", ".join(field.equipment.meters)
        fail(ExitCode.USAGE, f"{name} is not a meter", code="E002", help=f"one of {meters}")
    return name


def joined(names: list[str], outcomes: list[CheckOutcome]) -> CheckOutcome:
    """Join the outcomes of several devices into one."""
    from gateway.commissioning.finding import worst

    return CheckOutcome(
        verdict=worst([o.verdict for o in outcomes]),
        rows=tuple(
            replace(r, name=f"{name} {r.name}") if len(names) > 1 else r
            for name, o in zip(names, outcomes, strict=True)
            for r in o.rows
        ),
        findings=tuple(f for o in outcomes for f in o.findings),
        note="; ".join(dict.fromkeys(o.note for o in outcomes if o.note)),
    )


async def _scale(field: Field, given: Parameters) -> CheckOutcome:
    device = known_device(field, given["device"])
    return await passive.scales(field.rack, device, references=given["ref"])


async def _clock(field: Field, given: Parameters) -> CheckOutcome:
    simulated = isinstance(field.clock, BenchClock)
    outcome, _run = await passive.clocks(
        field.rack, span_s=given["span"] / 1000, simulated=simulated
    )
    return outcome


async def _network(field: Field, given: Parameters) -> CheckOutcome:
    return await passive.network(field.rack, polls_count=given["count"])


# The wiring check


def _wiring_order(field: Field, given: Parameters) -> WiringOrder:
    meter = _known_meter(field, given["device"])
    via = given["via"] or ""
    if not via or via == field.equipment.sop.master:
        via = wire.default_via(field.rack, meter)
    return WiringOrder(
        meter=meter,
        via=known_terminal(field, via),
        p_w=given["inject"],
        half_s=given["half"] / 1000,
        span_s_max=given["max_span"] / 1000,
        before_s=given["before"] / 1000,
    )


def _wiring_moves(field: Field, given: Parameters) -> Targets:
    order = _wiring_order(field, given)
    return {order.via: (Power(p_w=order.p_w), Power(p_w=-order.p_w))}


def _wiring_lines(field: Field, given: Parameters) -> list[str]:
    order = _wiring_order(field, given)
    return [
        f"{order.via}: ±{order.p_w / 1000:.0f} kW around 0 in halves of {order.half_s:.0f} s, "
        f"until {order.meter} is decided, {order.span_s_max:.0f} s at most"
    ]


async def _wiring(field: Field, given: Parameters) -> CheckOutcome:
    order = _wiring_order(field, given)
    seed = random.SystemRandom().randrange(1 << 32)
    run = await wire.run_wiring(
        field.rack,
        order,
        random.Random(seed).random,  # noqa: S311 - not a secret
        journal=field.journal,
        say=progress,
    )
    return wire.outcome(field.rack, run)


# Tests


def _first_slave(field: Field) -> str:
    return field.equipment.sop.slaves[0].id


def _step_order(field: Field, given: Parameters) -> StepOrder:
    return StepOrder(
        terminal=known_terminal(field, given["terminal"]),
        to_w=given["to"],
        from_w=given["from_"],
        hold_s=given["hold"] / 1000,
        back=given["return_"],
        repeat_count=given["repeat"],
    )


def _step_moves(field: Field, given: Parameters) -> Targets:
    order = _step_order(field, given)
    first_w = (order.from_w,) if order.from_w else ()  # at zero it stands already
    return {order.terminal: tuple(Power(p_w=p_w) for p_w in (*first_w, order.to_w))}


async def _step(field: Field, given: Parameters) -> CheckOutcome:
    order = _step_order(field, given)
    if order.to_w == order.from_w:
        fail(ExitCode.USAGE, "a step goes somewhere: --from and --to are equal", code="E002")
    measured = await steps.run_step(field.rack, order, journal=field.journal, say=progress)
    outcome = steps.step_outcome(order.terminal, measured, steps.default_limits(field.rack, order))
    if given["plot"]:
        show_curves(outcome)
    if given["csv"] is not None:
        write_csv(outcome, given["csv"])
    return outcome


def show_curves(outcome: CheckOutcome) -> None:
    """Draw measured curves with dots, the set value dotted."""
    from gateway.hmi.braille import plot

    for curve in outcome.curves:
        measured, wanted = (
            [(round(t_s * 1e6), p_w / 1000) for t_s, p_w in points]
            for points in (curve.measured, curve.wanted)
        )
        say(f"{curve.name}, seconds after the write")
        say(plot(measured, dotted=wanted, width=90, height=10, unit="kW"))


def write_csv(outcome: CheckOutcome, path: Path) -> None:
    """Write every sample: step, seconds after the write, W."""
    rows = [f"{c.name},{t_s:.6f},{p_w:.0f}" for c in outcome.curves for t_s, p_w in c.measured]
    path.write_text("\n".join(["step,t_s,p_w", *rows]) + "\n", encoding="utf-8")


def _sweep_order(field: Field, given: Parameters) -> SweepOrder:
    return SweepOrder(
        terminal=known_terminal(field, given["terminal"]),
        angles_count=given["angles"],
        radii=given["radius"],
        hold_s=given["hold"] / 1000,
    )


def _sweep_moves(field: Field, given: Parameters) -> Targets:
    """Every point it may visit, those it will skip for their voltage too."""
    order = _sweep_order(field, given)
    terminal = field.equipment.sop.terminal(order.terminal)
    steps = [
        step
        for v0_v in (0.0, 1.0)  # which way the first steps go, the feeder's voltage decides
        for step in sweep.first_steps(
            v0_v=v0_v,
            v_mid_v=0.5,
            s_va=terminal.s_va,
            p_w_min=terminal.p_w_min,
            p_w_max=terminal.p_w_max,
            radius_ratio_max=max(order.radii),
        )
    ]
    points = sweep.spiral(
        s_va=terminal.s_va,
        p_w_min=terminal.p_w_min,
        p_w_max=terminal.p_w_max,
        angles_count=order.angles_count,
        radii=order.radii,
    )
    return {terminal.id: tuple(Power(p_w=t.p_w, q_var=t.q_var) for t in (*steps, *points))}


async def _sweep(field: Field, given: Parameters) -> CheckOutcome:
    order = _sweep_order(field, given)
    capability, visited = await steps.run_sweep(
        field.rack, order, journal=field.journal, say=progress
    )
    outcome = steps.sweep_outcome(capability, visited)
    if given["save"] is not None:
        given["save"].write_text(capability_text(capability), encoding="utf-8")
        key = f"sops.{field.equipment.sop.id}.terminals.{capability.terminal}"
        saved = f"{given['save']} written; the envelope keeps to it once {key}.capability names it"
        outcome = replace(outcome, note="; ".join(t for t in (outcome.note, saved) if t))
    return outcome


def capability_text(capability: Capability) -> str:
    """Write a capability as the site file's key ``capability`` reads it."""
    lines = [
        f"# capability of {capability.terminal}, measured; P > 0 injects into the feeder",
        f"terminal: {capability.terminal}",
        f"s: {capability.s_va} VA",
        "corners:",
        *(f"  - {{p: {p} W, q: {q} var}}" for p, q in capability.corners),
    ]
    return "\n".join(lines) + "\n"


def _of_station(field: Field, given: Parameters) -> None:
    """End with exit 2 where another device than the SOP's station was named."""
    station = field.equipment.station.name
    if given["device"] != station:
        fail(
            ExitCode.USAGE,
            f"{field.equipment.sop.id} is tested at {station}, not at “{given['device']}”",
            code="E002",
            help=f"{station}, or --sop NAME for the SOP of another station",
        )


def _watchdog_order(field: Field, given: Parameters) -> WatchdogOrder:
    _of_station(field, given)
    terminal = known_terminal(field, given["terminal"] or _first_slave(field))
    return WatchdogOrder(
        how=How(given["how"]),
        terminal=terminal,
        p_w=given["power"],
        expectation=silence.default_expectation(field.rack, terminal, given["power"]),
    )


def _watchdog_moves(field: Field, given: Parameters) -> Targets:
    order = _watchdog_order(field, given)
    return {order.terminal: (Power(p_w=order.p_w),)}


async def _watchdog(field: Field, given: Parameters) -> CheckOutcome:
    order = _watchdog_order(field, given)
    found_s = await silence.as_found_s(field.rack)
    result = await silence.run_watchdog(
        field.rack,
        order,
        person=field.person,
        hold_elsewhere=lambda: hold_elsewhere(field, order),
        journal=field.journal,
        say=progress,
    )
    return silence.watchdog_outcome(result, order, found_s)


def _hold_order(field: Field, given: Parameters) -> HoldOrder:
    return HoldOrder(
        terminal=known_terminal(field, given["terminal"]),
        p_w=given["power"],
        span_s=given["span"] / 1000,
    )


def _hold_moves(field: Field, given: Parameters) -> Targets:
    order = _hold_order(field, given)
    return {order.terminal: (Power(p_w=order.p_w),)}


async def _hold(field: Field, given: Parameters) -> CheckOutcome:
    return await run_hold(
        field.rack, _hold_order(field, given), journal=field.journal, say=progress
    )


def _estop_moves(field: Field, given: Parameters) -> Targets:
    _of_station(field, given)
    terminal = known_terminal(field, given["terminal"] or _first_slave(field))
    return {terminal: (Power(p_w=given["power"]),)}


async def _estop(field: Field, given: Parameters) -> CheckOutcome:
    ((terminal, (power,)),) = _estop_moves(field, given).items()
    return await panel.run_estop(
        field.rack,
        field.person,
        terminal=terminal,
        p_w=power.p_w,
        limit_s=given["limit"] / 1000,
        journal=field.journal,
        say=progress,
    )


def _signals_of(names: tuple[str, ...]) -> tuple[panel.Signal, ...]:
    try:
        return panel.chosen(names)
    except KeyError as unknown:
        known = ", ".join(s.name for s in panel.SIGNALS)
        fail(ExitCode.USAGE, f"no signal {unknown}", code="E002", help=f"one of {known}")


async def _signals(field: Field, given: Parameters) -> CheckOutcome:
    _of_station(field, given)
    names = tuple(n for text in given["only"] for n in text.split(","))
    return await panel.run_signals(field.rack, field.person, _signals_of(names))


async def _interlock(field: Field, given: Parameters) -> CheckOutcome:
    names = given["names"] or ("local",)
    return await panel.run_interlocks(field.rack, field.person, _signals_of(names))


def _nothing(_field: Field, _given: Parameters) -> Targets:
    return {}


def _interlock_lines(_field: Field, _given: Parameters) -> list[str]:
    return ["SELECT of zero power at every terminal before and while it is active; no OPERATE"]


OPERATIONS: Mapping[str, Operation] = {
    "check signs": Operation(run=_signs),
    "check scale": Operation(run=_scale),
    "check clock": Operation(run=_clock),
    "check network": Operation(run=_network),
    "check wiring": Operation(run=_wiring, moves=_wiring_moves, lines=_wiring_lines),
    "test signals": Operation(run=_signals, station=True),
    "test interlock": Operation(
        run=_interlock, moves=_nothing, lines=_interlock_lines, station=True
    ),
    "test step": Operation(run=_step, moves=_step_moves),
    "test hold": Operation(run=_hold, moves=_hold_moves),
    "test watchdog": Operation(run=_watchdog, moves=_watchdog_moves),
    "test estop": Operation(run=_estop, moves=_estop_moves, station=True),
    "test sweep": Operation(run=_sweep, moves=_sweep_moves),
}
