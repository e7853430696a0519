"""Step test and capability sweep on a real terminal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.commissioning import step, sweep
from gateway.commissioning.equipment import Rack, Say, silent
from gateway.commissioning.finding import Finding, Punch, Verdict, worst
from gateway.commissioning.sat.plots import curve, polygon
from gateway.commissioning.sat.record import CheckOutcome, Curve, Row
from gateway.commissioning.session import (
    SETTLE_S,
    Power,
    Session,
    first_error,
    hold,
    ramp_permille,
    ramp_s,
)
from gateway.commissioning.step import StepLimits, StepMetrics, StepSample
from gateway.commissioning.sweep import Shift, Target, Visited
from gateway.model.capability import Capability
from gateway.model.errors import DeviceError
from gateway.model.telemetry import StationTelemetry, TerminalTelemetry
from gateway.model.terminal import Terminal
from gateway.ports import Journal

Seen = tuple[float, StationTelemetry]  # length of the poll in s, and what it brought
Radii = tuple[float, ...]  # of the rating
BEFORE_S = 1.0  # samples before the write tell the noise
POLL_S = 0.02
AT_REST_S = 2.0  # watched after the ramp and what a station may take to settle


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOrder:
    """One step, there and perhaps back, so many times."""

    terminal: str
    to_w: int
    from_w: int = 0
    hold_s: float = 10.0
    ramp_permille_per_s: int | None = None
    back: bool = False
    repeat_count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredStep:
    """One step with what it did."""

    from_w: int
    to_w: int
    t_write_s: float
    metrics: StepMetrics
    samples: tuple[StepSample, ...]


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Samples as they come in."""

    terminal: str
    seen: list[Seen] = field(default_factory=list)

    def between(self, t_start_s: float, t_end_s: float, still: dict[str, int]) -> list[StepSample]:
        """Turn what was seen in a span into samples of the tested terminal."""
        samples = []
        for width_s, telemetry in self.seen:
            t_s = telemetry.mono_us / 1e6
            if not t_start_s <= t_s <= t_end_s:
                continue
            tested = next(t for t in telemetry.terminals if t.id == self.terminal)
            others = max(
                (abs(t.p_w - still[t.id]) for t in telemetry.terminals if t.id in still),
                default=0,
            )
            samples.append(
                StepSample(
                    t_s=t_s,
                    p_w=float(tested.p_w),
                    q_var=float(tested.q_var),
                    v_dc_v=telemetry.v_dc_dv / 10,
                    others_p_w=float(others),
                    width_s=width_s,
                )
            )
        return samples


@contextlib.asynccontextmanager
async def watching(rack: Rack, terminal: str, *, period_s: float = POLL_S) -> AsyncIterator[_Watch]:
    """Poll the station on a connection of its own while a test goes on; its error comes out bare.

    Whoever tells refusals apart must not find them wrapped in a group.
    """
    station = rack.second_station()
    watch = _Watch(terminal=terminal)

    async def poll_on() -> None:
        while True:
            began_s = rack.now_s()
            with contextlib.suppress(DeviceError):
                telemetry = await station.read()
                watch.seen.append((rack.now_s() - began_s, telemetry))
            await rack.pause(period_s)

    try:
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(poll_on())
            try:
                yield watch
            finally:
                polling.cancel()
    except BaseExceptionGroup as several:
        raise first_error(several) from None
    finally:
        await station.close()


async def run_step(
    rack: Rack, order: StepOrder, *, journal: Journal | None = None, say: Say = silent
) -> list[MeasuredStep]:
    """Carry the steps out and come back to zero."""
    measured: list[MeasuredStep] = []
    sop = rack.equipment.sop
    s_va = sop.terminal(order.terminal).s_va
    watched_s = span_s(rack, order)
    ways = [(order.from_w, order.to_w)] + ([(order.to_w, order.from_w)] if order.back else [])
    async with (
        hold(rack, journal=journal, say=say) as session,
        watching(rack, order.terminal) as watch,
    ):
        for number in range(order.repeat_count):
            await _go(rack, session, order, order.from_w)
            for from_w, to_w in ways:
                await rack.pause(BEFORE_S)
                still = {
                    t.id: t.p_w
                    for t in (await session.station.read()).terminals
                    if t.id not in (order.terminal, sop.master)
                }
                sent_s = await session.set(
                    {order.terminal: Power(p_w=to_w)},
                    life_s=round(watched_s) + 10,
                    ramp_permille_per_s=order.ramp_permille_per_s,
                )
                await rack.clock.sleep_until(round((sent_s + watched_s) * 1e6))
                samples = watch.between(sent_s - BEFORE_S, rack.now_s(), still)
                measured.append(
                    MeasuredStep(
                        from_w=from_w,
                        to_w=to_w,
                        t_write_s=sent_s,
                        metrics=step.measure(
                            samples, t_write_s=sent_s, from_w=from_w, to_w=to_w, s_va=s_va
                        ),
                        samples=tuple(samples),
                    )
                )
                say(f"run {number + 1}: {from_w / 1000:.0f} → {to_w / 1000:.0f} kW")
    return measured


async def _go(rack: Rack, session: Session, order: StepOrder, p_w: int) -> None:
    """Bring the terminal to where the step begins and let it settle."""
    terminal = rack.equipment.sop.terminal(order.terminal)
    seen = await session.station.read()
    now_w = next(t.p_w for t in seen.terminals if t.id == order.terminal)
    if abs(now_w - p_w) < 0.01 * terminal.s_va:
        return
    way_s = ramp_s(rack.equipment.sop, terminal, now_w - p_w)
    await session.set({order.terminal: Power(p_w=p_w)}, life_s=round(way_s + order.hold_s) + 20)
    await rack.pause(way_s + 2.0)


def _way_s(rack: Rack, order: StepOrder) -> float:
    """Return how long the ordered ramp takes for the step."""
    terminal = rack.equipment.sop.terminal(order.terminal)
    permille = ramp_permille(rack.equipment.sop)
    if order.ramp_permille_per_s is not None:
        permille = min(permille, order.ramp_permille_per_s)
    return 1000 * abs(order.to_w - order.from_w) / (permille * terminal.s_va)


def span_s(rack: Rack, order: StepOrder) -> float:
    """Return how long a step is watched: as asked, and so long that it is judged at rest.

    The rest is the last quarter of what was watched: the ramp and the time to settle must lie
    before it.
    """
    return max(order.hold_s, 2 * _way_s(rack, order) + SETTLE_S + AT_REST_S)


def default_limits(rack: Rack, order: StepOrder) -> StepLimits:
    """Limits with the ramp's own time in them: a ramp of 20 %/s is no slow answer."""
    terminal = rack.equipment.sop.terminal(order.terminal)
    way_s = _way_s(rack, order)
    error_pct = max(1.0, 100 * 0.01 * terminal.s_va / abs(order.to_w - order.from_w))
    return StepLimits(
        dead_time_s=0.5 + step.START_RATIO * way_s,  # an answer is told by what it has done
        response_s=1.5 + way_s,
        settle_s=SETTLE_S + way_s,
        error_pct=error_pct,  # 1 % of the rating, whatever the step
        overshoot_pct=max(5.0, error_pct),
        cross_pct=max(3.0, error_pct),
    )


def step_outcome(where: str, measured: list[MeasuredStep], limits: StepLimits) -> CheckOutcome:
    """Put the steps into the words of the record."""
    rows: list[Row] = []
    verdicts: list[Verdict] = []
    findings: dict[str, Finding] = {}
    for m in measured:
        verdict, found = step.judge(where, m.metrics, limits)
        verdicts.append(verdict)
        findings |= {f.code: f for f in found}
        way = f"{m.from_w / 1000:+.0f} → {m.to_w / 1000:+.0f} kW"
        bad = {f.code for f in found}
        x = m.metrics
        rows += [
            _row(way, "dead time", str(x.dead_time), limits.dead_time_s, "s", bad),
            _row(way, "response", str(x.response), limits.response_s, "s", bad),
            _row(way, "settling", str(x.settle), limits.settle_s, "s", bad),
            _row(way, "overshoot", f"{x.overshoot_pct:.1f} %", limits.overshoot_pct, "%", bad),
            _row(way, "error at rest", f"{x.error_pct:.2f} %", limits.error_pct, "%", bad),
            _row(
                way, "Q disturbance", f"{x.q_disturbance_pct:.1f} %", limits.q_disturbance_pct,
                "%", bad,
            ),
            _row(way, "cross-coupling", f"{x.cross_pct:.1f} %", limits.cross_pct, "%", bad),
            Row(
                name=f"{way} DC link",
                value_text=f"{x.v_dc_min_v:.1f} … {x.v_dc_max_v:.1f} V",
            ),
        ]  # fmt: skip
    period_s = max((m.metrics.period_s for m in measured), default=0.0)
    curves = tuple(_curve(m) for m in measured)
    return CheckOutcome(
        verdict=worst(verdicts),
        rows=tuple(rows),
        findings=tuple(findings.values()),
        note=f"polled every {1000 * period_s:.0f} ms; nothing finer than half of that is printed",
        plot_svg=curve(curves[0].measured, curves[0].wanted, title=f"{where} {curves[0].name}")
        if curves
        else "",
        curves=curves,
    )


def _curve(measured: MeasuredStep) -> Curve:
    """Put a step on a time axis that begins with its write."""
    t0_s = measured.t_write_s
    end_s = measured.samples[-1].t_s - t0_s if measured.samples else 0.0
    return Curve(
        name=f"{measured.from_w / 1000:+.0f} → {measured.to_w / 1000:+.0f} kW",
        measured=tuple((s.t_s - t0_s, s.p_w) for s in measured.samples),
        wanted=(
            (-BEFORE_S, float(measured.from_w)),
            (0.0, float(measured.to_w)),
            (end_s, float(measured.to_w)),
        ),
    )


def _row(way: str, name: str, value: str, limit: float | None, unit: str, bad: set[str]) -> Row:
    return Row(
        name=f"{way} {name}",
        value_text="not reached" if value == "None" else value,
        limit="" if limit is None else f"≤ {limit:.3g} {unit}",
        verdict=Verdict.FAULT if name.lower().replace(" ", "-") in bad else Verdict.OK,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepOrder:
    """Which points are visited and what stops the way to one."""

    terminal: str
    angles_count: int = 12
    radii: Radii = (0.3, 0.6, 0.9)
    hold_s: float = 4.0
    v_margin_ratio: float = 0.02  # a point predicted this near to a voltage limit is skipped


async def run_sweep(
    rack: Rack, order: SweepOrder, *, journal: Journal | None = None, say: Say = silent
) -> tuple[Capability, list[Visited]]:
    """Tell the feeder from small steps, visit the points spiralling outward, end at zero."""
    terminal = rack.equipment.sop.terminal(order.terminal)
    targets = sweep.spiral(
        s_va=terminal.s_va,
        p_w_min=terminal.p_w_min,
        p_w_max=terminal.p_w_max,
        angles_count=order.angles_count,
        radii=order.radii,
    )
    visited: list[Visited] = []
    shifts: list[Shift] = []
    async with hold(rack, journal=journal, say=say) as session:
        rest = await _at(session, terminal.id)
        v0_v = rest.v_dv / 10
        steps = sweep.first_steps(
            v0_v=v0_v,
            v_mid_v=(terminal.v_dv_min + terminal.v_dv_max) / 20,
            s_va=terminal.s_va,
            p_w_min=terminal.p_w_min,
            p_w_max=terminal.p_w_max,
            radius_ratio_max=max(order.radii),
        )
        for number, target in enumerate((*steps, *targets), 1 - len(steps)):
            reason = _unsafe(terminal, order, target, v0_v, shifts)
            if reason:
                if number > 0:
                    visited.append(Visited(target=target, p_w=0, q_var=0, reason=reason))
                continue
            point, there = await _visit(rack, session, order, target)
            shifts.append(
                Shift(
                    p_w=there.p_w - rest.p_w,
                    q_var=there.q_var - rest.q_var,
                    v_v=there.v_dv / 10 - v0_v,
                )
            )
            if number <= 0:
                continue
            visited.append(point)
            say(
                f"point {number}/{len(targets)}, {point.p_w / 1000:+.0f} kW "
                f"{point.q_var / 1000:+.0f} kvar"
            )
    return sweep.polygon(terminal.id, visited, s_va=terminal.s_va), visited


def _unsafe(
    terminal: Terminal, order: SweepOrder, target: Target, v0_v: float, shifts: list[Shift]
) -> str:
    """Say why a point is not visited; "" when its voltage is predicted within the limits."""
    low_v, high_v = sweep.predicted_v(
        v0_v,
        p_w=target.p_w,
        q_var=target.q_var,
        feeder=sweep.feeder(v0_v, shifts, s_va=terminal.s_va),
    )
    if high_v > terminal.v_dv_max / 10 * (1 - order.v_margin_ratio):
        return f"predicted {high_v:.0f} V"
    if low_v < terminal.v_dv_min / 10 * (1 + order.v_margin_ratio):
        return f"predicted {low_v:.0f} V"
    return ""


async def _at(session: Session, terminal_id: str) -> TerminalTelemetry:
    seen = await session.station.read()
    return next(t for t in seen.terminals if t.id == terminal_id)


async def _visit(
    rack: Rack, session: Session, order: SweepOrder, target: Target
) -> tuple[Visited, TerminalTelemetry]:
    terminal = rack.equipment.sop.terminal(order.terminal)
    now = await _at(session, terminal.id)
    way_w = max(abs(now.p_w - target.p_w), abs(now.q_var - target.q_var))
    span_s = ramp_s(rack.equipment.sop, terminal, way_w) + order.hold_s
    await session.set(
        {terminal.id: Power(p_w=target.p_w, q_var=target.q_var)}, life_s=round(span_s) + 10
    )
    await rack.pause(span_s)
    there = await _at(session, terminal.id)
    return Visited(target=target, p_w=there.p_w, q_var=there.q_var), there


def _visit_verdict(visited: Visited, *, short: bool, unknown: bool) -> Verdict:
    if visited.reason:
        return Verdict.UNDECIDED if unknown else Verdict.OK
    return Verdict.FAULT if short else Verdict.OK


def sweep_outcome(capability: Capability, visited: list[Visited]) -> CheckOutcome:
    """Put a sweep into the words of the record."""
    short = sweep.shortfalls(visited, s_va=capability.s_va)
    skipped = [v for v in visited if v.reason]
    unknown = sweep.never_visited(visited)
    limits = capability.p_range_w(0)
    findings = tuple(
        Finding(
            code="shortfall",
            where=f"{capability.terminal} {v.target.angle_deg:.0f}° {v.target.radius_ratio:.0%}",
            what=f"asked {v.target.p_w / 1000:+.0f} kW {v.target.q_var / 1000:+.0f} kvar, got "
            f"{v.p_w / 1000:+.0f} kW {v.q_var / 1000:+.0f} kvar",
            mend="look for a derating or a limit at that point; the planner keeps to what was seen",
            punch=Punch.C,
        )
        for v in short
    )
    rows = [
        Row(name="points", value_text=f"{len(visited)}, {len(skipped)} skipped"),
        Row(
            name="P at Q = 0",
            value_text="none"
            if limits is None
            else f"{limits[0] / 1000:+.1f} … {limits[1] / 1000:+.1f} kW",
        ),
    ]
    rows += [
        Row(
            name=f"{v.target.angle_deg:.0f}° {v.target.radius_ratio:.0%}",
            value_text=f"skipped: {v.reason}"
            if v.reason
            else f"{v.p_w / 1000:+.1f} kW {v.q_var / 1000:+.1f} kvar",
            limit=f"{v.target.p_w / 1000:+.1f} kW {v.target.q_var / 1000:+.1f} kvar",
            verdict=_visit_verdict(v, short=v in short, unknown=v.target.angle_deg in unknown),
        )
        for v in visited
    ]
    # Less than asked is a capability, not a failure: it narrows the envelope and is listed.
    # A direction nobody went is no capability: the polygon says zero there, and nobody knows.
    directions = ", ".join(f"{angle:.0f}°" for angle in unknown)
    return CheckOutcome(
        verdict=Verdict.UNDECIDED if unknown else Verdict.OK,
        rows=tuple(rows),
        findings=findings,
        note=f"never visited, taken as zero: {directions}" if unknown else "",
        plot_svg=polygon(
            capability.corners,
            [(v.target.p_w, v.target.q_var) for v in visited],
            radius=capability.s_va,
            title=f"capability of {capability.terminal}",
        ),
    )
