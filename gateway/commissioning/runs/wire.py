"""Active wiring check on a real meter: inject ±P, watch every phase, stop as soon as it is sure.

While power flows the same polls also tell scale, CT ratio and which counter is import, so the
check says all it saw and not only what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from gateway.commissioning import injection, scale, wiring
from gateway.commissioning.equipment import Poll, Rack, Say, import_positive, silent
from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.runs.passive import SETTLEMENT, judge_scales
from gateway.commissioning.sat.record import CheckOutcome, Row
from gateway.commissioning.session import Power, Session, hold
from gateway.commissioning.wiring import Half, PhaseSample, WiringResult
from gateway.model.errors import DeviceError
from gateway.ports import Journal

NEEDED = ("p1", "p2", "p3", "q1", "q2", "q3")
ALSO = ("v1", "v2", "v3", "i1", "i2", "i3", "p", "q", "s", "pf", "f", *SETTLEMENT)
FIRST_LOOK_COUNT = 4  # halves before the first verdict
ENERGY_WH_MIN = 40.0  # below this the step of the counters and the edges of the halves weigh in
POLL_S = 0.5
QUIET_RATIO = 0.15  # of the injected power: a meter that moves less does not see this terminal
SEEING_RATIO = 0.7  # and one that moves more does
ABSURD_RATIO = 50.0  # of the terminal's rating, on one phase: no reading, whatever the feeder


@dataclass(frozen=True, slots=True, kw_only=True)
class WiringOrder:
    """What is injected where."""

    meter: str
    via: str  # terminal that injects
    p_w: int
    half_s: float = 10.0
    span_s_max: float = 240.0
    before_s: float = 60.0  # how long loads are watched before; the longer the surer


@dataclass(slots=True, kw_only=True)
class WiringRun:
    """Everything that was seen."""

    order: WiringOrder
    samples: list[PhaseSample] = field(default_factory=list)
    polls: list[Poll] = field(default_factory=list)
    halves: list[Half] = field(default_factory=list)
    terminal: list[tuple[float, float]] = field(default_factory=list)  # s, W the meter's own gave
    elsewhere_w: dict[str, list[float]] = field(default_factory=dict)  # meter -> P, one a half
    load_step_w: float = 0.0
    plausible: bool = True
    result: WiringResult | None = None
    decided_after_s: float = 0.0


def default_via(rack: Rack, meter: str) -> str:
    """Return the terminal that can inject for a meter: its own, or a slave for the master's."""
    sop = rack.equipment.sop
    own = rack.equipment.terminal_of(meter).id
    return own if own != sop.master else sop.slaves[0].id


async def run_wiring(
    rack: Rack,
    order: WiringOrder,
    draw: Callable[[], float],
    *,
    journal: Journal | None = None,
    say: Say = silent,
) -> WiringRun:
    """Watch the loads, inject until decided or the time is up, come back to zero."""
    reader = rack.reader(order.meter)
    run = WiringRun(order=order)
    if not reader.has(*NEEDED):
        return run
    names = [n for n in (*NEEDED, *ALSO) if reader.has(n)]
    before: list[PhaseSample] = []
    last: Poll | None = None
    end_s = rack.now_s() + order.before_s
    while rack.now_s() < end_s:
        last = await reader.read(names)
        before.append(_sample(last))
        await rack.pause(POLL_S)
    run.load_step_w = wiring.largest_load_step_w(before)
    run.plausible = _plausible(rack, order.meter, before, last)
    if not run.plausible:
        return run
    if order.p_w < wiring.injection_needed_w(run.load_step_w):
        return run
    async with (
        hold(rack, journal=journal, say=say) as session,
        _polling(rack, order.meter, names, run),
    ):
        await _inject(rack, session, run, draw, say)
    return run


def _plausible(rack: Rack, meter: str, before: Sequence[PhaseSample], last: Poll | None) -> bool:
    """Tell whether a feeder can carry what the meter reads at all."""
    limit = ABSURD_RATIO * rack.equipment.terminal_of(meter).s_va
    phase_v = rack.equipment.v_nominal_v / math.sqrt(3)
    volts = [last.points[v] for v in ("v1", "v2", "v3") if v in last.points] if last else []
    return all(
        math.isfinite(x) and abs(x) <= limit for s in before for x in (*s.p_w, *s.q_var)
    ) and all(0.5 * phase_v <= v <= 1.5 * phase_v for v in volts)


async def _inject(
    rack: Rack, session: Session, run: WiringRun, draw: Callable[[], float], say: Say
) -> None:
    order = run.order
    count = max(FIRST_LOOK_COUNT, 2 * int(order.span_s_max / order.half_s / 2))
    terminal = rack.equipment.sop.terminal(order.via)
    # At the master's meter the injection shows with the other sign: its power is the residual.
    mirrored = rack.equipment.terminal_of(order.meter).id == rack.equipment.sop.master
    sign = -1 if mirrored and terminal.id != rack.equipment.sop.master else 1
    began_s = rack.now_s()
    for number, direction in enumerate(injection.signs(count, draw), 1):
        sent_s = await session.set(
            {order.via: Power(p_w=direction * order.p_w)}, life_s=round(order.half_s) + 10
        )
        await rack.clock.sleep_until(round((sent_s + order.half_s) * 1e6))
        run.halves.append(
            wiring.measured_half(
                t_start_s=sent_s,
                t_end_s=rack.now_s(),
                p_w=float(sign * direction * order.p_w),
                terminal=run.terminal,
            )
        )
        await _look_elsewhere(rack, run)
        say(f"half {number}/{count}")
        if number < FIRST_LOOK_COUNT:
            continue
        run.result = judged(rack, run)
        if run.result.verdict is not Verdict.UNDECIDED or sees_instead(run):
            break
    run.decided_after_s = rack.now_s() - began_s


async def _look_elsewhere(rack: Rack, run: WiringRun) -> None:
    """Read the other terminals' meters once a half: the injection may show at the wrong one."""
    sop = rack.equipment.sop
    for terminal in sop.terminals:
        if terminal.meter == run.order.meter or terminal.id in (sop.master, run.order.via):
            continue  # the master's meter sees every injection, as that of who injects has to
        reader = rack.reader(terminal.meter)
        seen_w = float("nan")
        if reader.has("p"):
            with contextlib.suppress(DeviceError):
                seen_w = (await reader.read(["p"])).points.get("p", seen_w)
        run.elsewhere_w.setdefault(terminal.meter, []).append(seen_w)


def sees_instead(run: WiringRun) -> str:
    """Name the meter that sees the injection while the one under test sees nothing; or ""."""
    if run.result is None or not run.halves:
        return ""
    if not _quiet(run.result):
        return ""
    for meter, values in run.elsewhere_w.items():
        with_half = [
            value if half.p_w > 0 else -value
            for half, value in zip(run.halves, values, strict=True)
            if math.isfinite(value)
        ]
        if len(with_half) < FIRST_LOOK_COUNT:
            continue
        # Every half on one side: a meter that reads nonsense is not one that sees the injection.
        one_sided = min(with_half) > 0 or max(with_half) < 0
        if one_sided and abs(statistics.fmean(with_half)) > SEEING_RATIO * run.order.p_w:
            return meter
    return ""


def _quiet(result: WiringResult) -> bool:
    """Tell whether the meter showed nothing of what its terminal gave.

    What was not measured is no silence: without a change, or a number, nobody is accused.
    """
    return result.changes_count > 0 and all(p.ratio <= QUIET_RATIO for p in result.phases)


def judged(rack: Rack, run: WiringRun) -> WiringResult:
    """Judge what was seen so far."""
    profile = rack.equipment.device(run.order.meter).profile
    return wiring.judge(run.samples, run.halves, import_positive=import_positive(profile))


@contextlib.asynccontextmanager
async def _polling(
    rack: Rack, meter: str, names: Sequence[str], run: WiringRun
) -> AsyncIterator[None]:
    """Poll the meter and its terminal beside the injection; a lost poll is a gap, not an end."""
    reader = rack.reader(meter)
    terminal = rack.equipment.terminal_of(meter).id

    async def poll_on() -> None:
        while True:
            with contextlib.suppress(DeviceError):
                poll = await reader.read(names)
                run.polls.append(poll)
                run.samples.append(_sample(poll))
            with contextlib.suppress(DeviceError):
                seen = await rack.station().read()
                p_w = next(t.p_w for t in seen.terminals if t.id == terminal)
                run.terminal.append((seen.mono_us / 1e6, float(p_w)))
            await rack.pause(POLL_S)

    async with asyncio.TaskGroup() as group:
        polling = group.create_task(poll_on())
        try:
            yield
        finally:
            polling.cancel()


def _sample(poll: Poll) -> PhaseSample:
    at = poll.points
    nan = float("nan")
    return PhaseSample(
        t_s=poll.t_s,
        p_w=(at.get("p1", nan), at.get("p2", nan), at.get("p3", nan)),
        q_var=(at.get("q1", nan), at.get("q2", nan), at.get("q3", nan)),
    )


def outcome(rack: Rack, run: WiringRun) -> CheckOutcome:
    """Put a run into the words of the record."""
    order, meter = run.order, run.order.meter
    reader = rack.reader(meter)
    if not reader.has(*NEEDED):
        missing = [n for n in NEEDED if not reader.has(n)]
        return CheckOutcome(
            verdict=Verdict.UNDECIDED,
            note=f"the profile of {meter} has no {', '.join(missing)}: phases cannot be told apart",
        )
    if not run.plausible:
        return CheckOutcome(
            verdict=Verdict.UNDECIDED,
            note=f"{meter} reads more than a feeder can carry: mend its scale or word order first",
        )
    if run.result is None:
        need_kw = wiring.injection_needed_w(run.load_step_w) / 1000
        return CheckOutcome(
            verdict=Verdict.UNDECIDED,
            note=f"loads step by {run.load_step_w / 1000:.1f} kW: inject at least {need_kw:.1f} kW",
        )
    rows = [_phase_row(p, off=p.phase in run.result.off) for p in run.result.phases]
    findings = list(run.result.findings(meter))
    other = sees_instead(run)
    if other:
        findings = [
            Finding(
                code="meters-swapped",
                where=f"{meter} and {other}",
                what=f"{meter} sees nothing of the injection at {order.via}, {other} sees it",
                mend="swap the two meters' addresses in the site file, or their CTs at the cabinet",
                punch=Punch.A,
            )
        ]
    findings += _energy(run, positive=import_positive(reader.profile))
    findings += _under_load(rack, run, findings)
    rows.append(
        Row(
            name="decided after",
            value_text=f"{run.decided_after_s:.0f} s",
            limit=f"≤ {order.span_s_max:.0f} s",
            verdict=run.result.verdict if run.result.verdict is Verdict.UNDECIDED else Verdict.OK,
        )
    )
    verdict = Verdict.FAULT if findings else run.result.verdict
    note = f"±{order.p_w / 1000:.0f} kW at {order.via}, {len(run.halves)} halves"
    if verdict is Verdict.UNDECIDED:
        note = "; ".join((note, *_why_undecided(rack, run, run.result)))
    return CheckOutcome(verdict=verdict, rows=tuple(rows), findings=tuple(findings), note=note)


def _why_undecided(rack: Rack, run: WiringRun, result: WiringResult) -> list[str]:
    """Say what stood in the way, and what helps."""
    own = rack.equipment.terminal_of(run.order.meter).id
    least_w = wiring.DELIVERED_RATIO_MIN * run.order.p_w
    late = [h for h in run.halves if h.t_ready_s >= h.t_end_s]
    gave_w = [abs(h.at_terminal_w) for h in run.halves if h not in late]
    if not run.terminal:
        return [f"{own} could not be read meanwhile"]
    if late and result.changes_count < wiring.CHANGES_MIN_COUNT:
        return [f"{own} moves until the end of a half, or is read too seldom: longer ones (--half)"]
    if gave_w and statistics.median(gave_w) < least_w:
        return [f"{own} gave {statistics.median(gave_w) / 1000:.1f} kW: is it derated or held?"]
    if _quiet(result):
        return [f"{run.order.meter} shows nothing of it"]
    if result.changes_count and all(p.sees for p in result.phases):
        mean = statistics.fmean(p.ratio for p in result.phases)
        return [f"in order but for the ratio, {mean:.2f} and not sure: more power or time"]
    return []


def _phase_row(phase: wiring.PhaseWiring, *, off: bool) -> Row:
    words = "ratio off" if off and phase.words == "ok" else phase.words
    return Row(
        name=phase.phase,
        value_text=f"{phase.p_w / 1000:+.2f} {phase.q_var / 1000:+.2f}j kW, ratio "
        f"{phase.ratio:.2f}, {phase.angle_deg:+.1f}° ±{phase.spread_deg:.1f}°: {words}",
        limit=f"{phase.expected_w / 1000:+.2f} +0.00j kW",
        verdict=Verdict.UNDECIDED
        if phase.verdict is Verdict.UNDECIDED
        else (Verdict.OK if words == "ok" else Verdict.FAULT),
    )


def _energy(run: WiringRun, *, positive: bool) -> list[Finding]:
    """Over the settled part of every half the counters grow as the meter's own power says.

    Net energy and power are counted with the sign of the half, so that loads cancel; a wrongly
    wired meter is still true to itself, so only counters that are off by themselves are found.
    """
    grown_wh = expected_wh = 0.0
    for half in run.halves:
        inside = [
            p
            for p in run.polls
            if half.t_start_s + wiring.DROP_S <= p.t_s <= half.t_end_s
            and all(c in p.points for c in (*SETTLEMENT, "p"))
        ]
        if len(inside) < 3:
            continue
        first, last = inside[0], inside[-1]
        sign = 1 if half.p_w > 0 else -1
        net_wh = [p.points["e.export"] - p.points["e.import"] for p in (first, last)]
        grown_wh += sign * (net_wh[1] - net_wh[0])
        mean_w = statistics.fmean(p.points["p"] for p in inside) * (-1 if positive else 1)
        expected_wh += sign * mean_w * (last.t_s - first.t_s) / 3600
    if abs(expected_wh) < ENERGY_WH_MIN:
        return []
    where = f"{run.order.meter} counters"
    line = scale.compare(
        "de-dt",
        where,
        grown_wh,
        expected_wh,
        tolerance=0.08 * abs(expected_wh) + 2 * len(run.halves),
        what="the counters do not grow as the power says",
        mend="check unit, scale and word order of the counters",
    )
    if line.finding is None:
        return []
    if line.finding.code != "sign":
        return [line.finding]
    return [
        Finding(
            code="counters-swapped",
            where=where,
            what=f"import and export grew the wrong way round: {grown_wh:+.0f} Wh net export, "
            f"the power says {expected_wh:+.0f} Wh",
            mend="swap import and export in the profile",
            punch=Punch.A,
        )
    ]


def _under_load(rack: Rack, run: WiringRun, known: Sequence[Finding]) -> list[Finding]:
    """Identities at the poll with the highest power; a reversed CT breaks none of them."""
    if known or not run.polls:
        return []
    meter = run.order.meter
    loaded = max(run.polls, key=lambda p: abs(p.points.get("p", 0.0)))
    profile = rack.equipment.device(meter).profile
    return list(judge_scales(rack.equipment, profile, meter, loaded).findings)
