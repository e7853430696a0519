"""Checks that only read: network, scales, signs, clocks."""

from __future__ import annotations

import ctypes
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.commissioning import clock, scale, signs
from gateway.commissioning.equipment import (
    Equipment,
    Poll,
    Rack,
    device_names,
    import_positive,
    numeric_points,
)
from gateway.commissioning.finding import Finding, Punch, Verdict, worst
from gateway.commissioning.sat.record import CheckOutcome, Row
from gateway.commissioning.scale import Line
from gateway.devices.codec import codecs_of
from gateway.devices.profile import Order, Point, Profile
from gateway.model.errors import DeviceError

NETWORK_POLLS_COUNT = 10
FLOOR_RATIO = 0.01  # of the rating: less power than this says nothing about a scale
LATENCY_MS_MAX = 250.0  # half of the fastest usual poll period
SETTLEMENT = ("e.import", "e.export")
ELECTRIC = (
    "v1", "v2", "v3", "i1", "i2", "i3", "p1", "p2", "p3", "q1", "q2", "q3", "p", "q", "s", "pf",
    "f",
)  # fmt: skip


async def network(rack: Rack, *, polls_count: int = NETWORK_POLLS_COUNT) -> CheckOutcome:
    """Ask every device a few times; a device that does not answer is a finding."""
    rows: list[Row] = []
    findings: list[Finding] = []
    limit_ms = rack.clock.at_least(round(LATENCY_MS_MAX * 1000)) / 1000
    for name in device_names(rack.equipment):
        reader = rack.reader(name)
        points = [numeric_points(reader.profile)[0].name] if reader.profile.points else []
        latencies_ms: list[float] = []
        failed = ""
        for _ in range(polls_count):
            try:
                poll = await reader.read(points)
            except DeviceError as error:
                failed = error.what
                break
            latencies_ms.append(poll.width_s * 1000)
        if failed or not latencies_ms:
            findings.append(
                Finding(
                    code="no-answer",
                    where=name,
                    what=f"{name} does not answer: {failed or 'nothing to ask'}",
                    mend=f"check address, unit and cable: sopgw device identify {name}",
                    punch=Punch.A,
                )
            )
            rows.append(Row(name=name, value_text="no answer", verdict=Verdict.FAULT))
            continue
        slowest_ms = max(latencies_ms)
        slow = slowest_ms > limit_ms
        rows.append(
            Row(
                name=name,
                value_text=f"{statistics.median(latencies_ms):.1f} ms, worst {slowest_ms:.1f} ms",
                limit=f"≤ {limit_ms:.0f} ms",
                verdict=Verdict.FAULT if slow else Verdict.OK,
            )
        )
        if slow:
            findings.append(
                Finding(
                    code="slow",
                    where=name,
                    what=f"{name} took {slowest_ms:.0f} ms for one point",
                    mend="look for a gateway in between, a busy line or a long pause setting",
                )
            )
    return CheckOutcome(
        verdict=Verdict.FAULT if findings else Verdict.OK,
        rows=tuple(rows),
        findings=tuple(findings),
    )


async def scales(
    rack: Rack, name: str, *, references: Sequence[tuple[str, float, float]] = ()
) -> CheckOutcome:
    """Check a device's points by identities, and by references a person read from a display."""
    if name == rack.equipment.station.name:
        return await _station_balance(rack)
    reader = rack.reader(name)
    wanted = [p for p in (*ELECTRIC, *SETTLEMENT) if reader.has(p)]
    wanted += [p for p, _value, _tolerance in references if reader.has(p) and p not in wanted]
    first = await reader.read(wanted)
    await rack.pause(1.0)
    last = await reader.read(wanted)
    outcome = judge_scales(rack.equipment, reader.profile, name, last, references=references)
    fell = [
        Finding(
            code="counter-fell",
            where=f"{name} {counter}",
            what=f"{counter} fell from {first.points[counter]:.0f} to {last.points[counter]:.0f}",
            mend="check type and word order of the counter",
            punch=Punch.A,
        )
        for counter in SETTLEMENT
        if counter in first.points and last.points.get(counter, 0.0) < first.points[counter]
    ]
    if not fell:
        return outcome
    return CheckOutcome(
        verdict=Verdict.FAULT, rows=outcome.rows, findings=(*outcome.findings, *fell)
    )


def judge_scales(
    equipment: Equipment,
    profile: Profile,
    name: str,
    poll: Poll,
    *,
    references: Sequence[tuple[str, float, float]] = (),
) -> CheckOutcome:
    """Judge one poll; when everything is off at once, try the words the other way round."""
    phase_v = equipment.v_nominal_v / math.sqrt(3)
    floor_w = FLOOR_RATIO * equipment.terminal_of(name).s_va
    lines = scale.identities(name, poll.points, v_nominal_v=phase_v, floor_w=floor_w)
    lines += scale.references(name, poll.points, references)
    faults = [line for line in lines if line.finding is not None]
    swapped = bool(faults or poll.missing) and _swapped_fits(
        profile, name, poll, phase_v=phase_v, floor_w=floor_w
    )
    if swapped:
        findings: tuple[Finding, ...] = (
            Finding(
                code="word-order",
                where=name,
                what="sends the low word first: all points are plausible when swapped",
                mend=f"set word_order: {_other(profile)} in the device's profile, or the meter",
                punch=Punch.A,
            ),
        )
    else:
        findings = tuple(line.finding for line in faults if line.finding is not None)
        findings += tuple(
            Finding(
                code="no-value",
                where=f"{name} {point}",
                what=f"{name} has no value for {point}",
                mend="check address and type of the point, or leave it out of the profile",
                punch=Punch.B,
            )
            for point in poll.missing
        )
    unsaid = [line.id for line in lines if line.verdict is Verdict.UNDECIDED]
    decided = [line.verdict for line in lines if line.verdict is not Verdict.UNDECIDED]
    return CheckOutcome(
        verdict=Verdict.FAULT if findings else worst(decided),
        rows=tuple(_row(line, poll, profile) for line in lines),
        findings=findings,
        note=f"without load nothing is said about: {', '.join(unsaid)}" if unsaid else "",
    )


def _row(line: Line, poll: Poll, profile: Profile) -> Row:
    raw = ""
    point = line.where.rpartition(" ")[2]
    known = next((p for p in profile.points if p.name == point), None)
    if known is not None and known.register is not None:
        at = known.register.address
        words = [poll.registers.get(at + i) for i in range(known.register_count)]
        raw = " " + " ".join(f"{w:04X}" for w in words if w is not None)
    return Row(
        name=f"{line.id} {line.where}",
        value_text=f"{line.value:.6g}{raw}",
        limit=f"{line.reference:.6g} ± {line.tolerance:.3g}",
        verdict=line.verdict,
    )


def _other(profile: Profile) -> str:
    return "little" if profile.modbus.word_order is Order.BIG else "big"


def _swapped_fits(
    profile: Profile, name: str, poll: Poll, *, phase_v: float, floor_w: float
) -> bool:
    """Tell whether every identity holds once the words of each value are swapped."""
    points: dict[str, float] = {}
    codecs = codecs_of(profile)
    for point_name, codec in codecs.items():
        words = _words_of(codec.point, poll)
        if len(words) < 2:
            continue
        exponent = 0
        if codec.point.scale_point is not None:
            scale_of = codecs[codec.point.scale_point]  # one register: it has no order of words
            one_word = _words_of(scale_of.point, poll)
            found = scale_of.decode(one_word)[0] if one_word else None
            if not isinstance(found, int):
                continue
            exponent = found
        value, _quality = codec.decode(words[::-1], exponent=exponent)
        if isinstance(value, int | float):
            points[point_name] = float(value)
    lines = scale.identities(name, points, v_nominal_v=phase_v, floor_w=floor_w)
    said = [line for line in lines if line.verdict is not Verdict.UNDECIDED]
    return len(said) >= 3 and all(line.verdict is Verdict.OK for line in said)


def _words_of(point: Point, poll: Poll) -> list[int]:
    """Return the registers of a point as they were read; none where one of them was not."""
    if point.register is None:
        return []
    at = point.register.address
    words = [poll.registers.get(at + i) for i in range(point.register_count)]
    return [w for w in words if w is not None] if None not in words else []


async def _station_balance(rack: Rack) -> CheckOutcome:
    """Σ P of the terminals and the losses the station reports."""
    seen = await rack.station().read()
    sop = rack.equipment.sop
    powers = {t.id: float(t.p_w) for t in seen.terminals}
    worst_w = sum(sop.losses.loss_w(p_w=t.s_va, s_va=t.s_va) for t in sop.terminals)
    line = scale.balance(sop.id, powers, losses_w_max=float(worst_w))
    v_dc = seen.v_dc_dv / 10
    inside = sop.v_dc_dv_min <= seen.v_dc_dv <= sop.v_dc_dv_max
    findings = [line.finding] if line.finding is not None else []
    if not inside:
        findings.append(
            Finding(
                code="dc-voltage",
                where=f"{rack.equipment.station.name} dc.v",
                what=f"the DC link reads {v_dc:.1f} V",
                mend="check scale and address of dc.v, or the site's dc limits",
                punch=Punch.A,
            )
        )
    rows = [Row(name=t, value_text=f"{p / 1000:.1f} kW") for t, p in powers.items()]
    rows += [
        Row(
            name="losses",
            value_text=f"{line.value / 1000:.2f} kW",
            limit=f"0 … {worst_w / 1000:.2f} kW",
            verdict=line.verdict,
        ),
        Row(
            name="DC link",
            value_text=f"{v_dc:.1f} V",
            limit=f"{sop.v_dc_dv_min / 10:.0f} … {sop.v_dc_dv_max / 10:.0f} V",
            verdict=Verdict.OK if inside else Verdict.FAULT,
        ),
    ]
    return CheckOutcome(
        verdict=Verdict.FAULT if findings else Verdict.OK,
        rows=tuple(rows),
        findings=tuple(findings),
    )


async def sign_samples(rack: Rack, meter: str, *, span_s: float, period_s: float = 1.0) -> list[
    signs.SignSample
]:  # fmt: skip
    """Poll converter and meter together over a span; polls without the meter's power are left out.

    What was not read is no zero.
    """
    reader = rack.reader(meter)
    terminal = rack.equipment.terminal_of(meter)
    wanted = [p for p in ("p", "p1", "p2", "p3", *SETTLEMENT) if reader.has(p)]
    samples: list[signs.SignSample] = []
    end_s = rack.now_s() + span_s
    while rack.now_s() < end_s:
        seen = await rack.station().read()
        poll = await reader.read(wanted)
        if "p" in poll.points:
            samples.append(
                _sign_sample(poll, next(t.p_w for t in seen.terminals if t.id == terminal.id))
            )
        await rack.pause(period_s)
    return samples


def _sign_sample(poll: Poll, converter_p_w: float) -> signs.SignSample:
    phases = tuple(poll.points[p] for p in ("p1", "p2", "p3") if p in poll.points)
    counters = [round(poll.points[c]) if c in poll.points else None for c in SETTLEMENT]
    return signs.SignSample(
        t_s=poll.t_s,
        converter_p_w=converter_p_w,
        meter_p_w=poll.points["p"],
        phases_p_w=phases if len(phases) == 3 else (),
        import_wh=counters[0],
        export_wh=counters[1],
    )


async def sign_check(rack: Rack, meter: str, *, span_s: float = 30.0) -> CheckOutcome:
    """Hold the meter's signs against the converter's with whatever flows."""
    terminal = rack.equipment.terminal_of(meter)
    samples = await sign_samples(rack, meter, span_s=span_s)
    result = signs.judge(
        meter,
        samples,
        s_va=terminal.s_va,
        import_positive=import_positive(rack.equipment.device(meter).profile),
    )
    return CheckOutcome(
        verdict=result.verdict,
        rows=(
            Row(name="samples with enough power", value_text=str(result.loaded_count), limit="≥ 3"),
        ),
        findings=result.findings,
        note=_sign_note(meter, samples, result),
    )


def _sign_note(meter: str, samples: Sequence[signs.SignSample], result: signs.SignResult) -> str:
    """Say why too little can be said."""
    if result.verdict is not Verdict.UNDECIDED:
        return ""
    if not samples:
        return f"{meter} gave no active power"
    if result.loaded_count < 3:
        return "too little power flows; check wiring injects its own"
    if result.told_count < result.loaded_count / 2:
        return f"{meter} shows too little of it: is it connected? check wiring injects its own"
    return f"{meter} agrees now and then only; check wiring injects its own"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRun:
    """What the clock check found, as figures."""

    host: clock.KernelClock | None
    station: clock.DeviceClock | None


async def clocks(
    rack: Rack, *, span_s: float = 5.0, simulated: bool = False
) -> tuple[CheckOutcome, ClockRun]:
    """Check the host's clock by the kernel's word and the station's by its uptime counter.

    ``simulated``: the devices live on a bench's time base, and the host's clock does not matter.
    """
    host = kernel_clock()
    rows: list[Row] = []
    findings: list[Finding] = []
    verdicts: list[Verdict] = []
    if simulated:
        rows.append(Row(name="host", value_text="simulated time of a bench"))
        verdicts.append(Verdict.OK)
    elif host is None:
        rows.append(Row(name="host", value_text="unknown", verdict=Verdict.UNDECIDED))
        verdicts.append(Verdict.UNDECIDED)
    else:
        verdict, finding = clock.host(host)
        verdicts.append(verdict)
        findings += [finding] if finding else []
        rows.append(
            Row(
                name="host",
                value_text=f"±{host.error_us_max / 1000:.0f} ms at most",
                limit=f"synchronised, ≤ {clock.ERROR_MS_MAX:.0f} ms",
                verdict=verdict,
            )
        )
    station = await _station_clock(rack, span_s=span_s)
    verdict, finding = clock.device_verdict(rack.equipment.station.name, station)
    findings += [finding] if finding else []
    if station is not None and station.rate_ppm is not None:
        rows.append(
            Row(
                name=rack.equipment.station.name,
                value_text=f"{station.rate_ppm:+.0f} ppm ±{station.rate_uncertainty_ppm:.0f} ppm",
                limit=f"≤ {clock.RATE_PPM_MAX:.0f} ppm",
                verdict=verdict,
            )
        )
    # A rate that needs hours to be told is no reason to withhold the host's verdict.
    if verdict is Verdict.FAULT:
        verdicts.append(verdict)
    outcome = CheckOutcome(verdict=worst(verdicts), rows=tuple(rows), findings=tuple(findings))
    return outcome, ClockRun(host=host, station=station)


async def _station_clock(rack: Rack, *, span_s: float) -> clock.DeviceClock | None:
    """Watch the uptime counter tick: each tick pins the device's time to one poll."""
    reader = rack.reader(rack.equipment.station.name)
    if not reader.has("uptime"):
        return None
    exchanges: list[clock.Exchange] = []
    end_s = rack.now_s() + span_s
    last: Poll | None = None
    while rack.now_s() < end_s:
        poll = await reader.read(["uptime"])
        if last is not None and poll.points["uptime"] == last.points["uptime"] + 1:
            exchanges.append(
                clock.Exchange(sent_s=last.t_s, device_s=poll.points["uptime"], received_s=poll.t_s)
            )
        last = poll
        await rack.pause(0.02)
    return clock.device(exchanges)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); reading needs no privilege."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def kernel_clock() -> clock.KernelClock | None:
    """Ask the kernel how good its clock is; None where it does not say."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        timex = _Timex()
        if library.adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return clock.KernelClock(
        status_bits=timex.status, error_us_max=timex.maxerror, error_us=timex.esterror
    )
