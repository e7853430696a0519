"""Scale, word order and unit of a device's points: identities and two independent readings.

A plausible reading can still be wrong, so nothing is believed alone: phases must add up to their
total, S² = P² + Q², counters must grow as the power says, the meter must agree with the
converter. What no identity reaches is compared with a reference a person read from a display.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.ratio import name_ratio

Quantity = float  # in the base unit of what is compared: W, V, A, Hz, Wh
SUM_TOLERANCE_RATIO = 0.02
S_TOLERANCE_RATIO = 0.03
PAIR_TOLERANCE_RATIO = 0.02
BUSBAR_V_RATIO = 0.01
BUSBAR_F_HZ = 0.05
F_HZ_MIN, F_HZ_MAX = 47.0, 53.0
V_RATIO_MIN, V_RATIO_MAX = 0.85, 1.15  # of nominal
NOTHING_W = 100.0  # an identity between values below this says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One comparison: what was read, what it was held against, the verdict."""

    id: str  # ``sum-p``, ``s2``, ``pvi-1``, ``f``, ``ref:v1`` …
    where: str
    value: Quantity
    reference: Quantity
    tolerance: Quantity
    verdict: Verdict
    finding: Finding | None = None

    @property
    def difference(self) -> float:
        """Value minus reference."""
        return self.value - self.reference


def compare(
    id_: str, where: str, value: float, reference: float, *, tolerance: float, what: str, mend: str
) -> Line:
    """Hold a value against a reference; a difference is named by its ratio where one fits."""
    if not (math.isfinite(value) and math.isfinite(reference)):
        return _line(id_, where, value, reference, tolerance, f"{what}: not a number", mend, "nan")
    if abs(value - reference) <= tolerance:
        return Line(
            id=id_,
            where=where,
            value=value,
            reference=reference,
            tolerance=tolerance,
            verdict=Verdict.OK,
        )
    ratio = value / reference if reference else math.inf
    if ratio < 0 and abs(abs(ratio) - 1) < 0.1:
        return _line(
            id_, where, value, reference, tolerance, f"{what}: sign reversed", mend, "sign"
        )
    named = name_ratio(abs(ratio)) if math.isfinite(ratio) else None
    text = f"{what}: {value:.6g} against {reference:.6g}"
    if named:
        text += f" ({named.meaning})"
    return _line(
        id_, where, value, reference, tolerance, text, mend, named.code if named else "differs"
    )


def _line(
    id_: str,
    where: str,
    value: float,
    reference: float,
    tolerance: float,
    what: str,
    mend: str,
    code: str,
) -> Line:
    finding = Finding(code=code, where=where, what=what, mend=mend, punch=Punch.A)
    return Line(
        id=id_,
        where=where,
        value=value,
        reference=reference,
        tolerance=tolerance,
        verdict=Verdict.FAULT,
        finding=finding,
    )


def _unsaid(id_: str, where: str, value: float, reference: float) -> Line:
    return Line(
        id=id_,
        where=where,
        value=value,
        reference=reference,
        tolerance=0.0,
        verdict=Verdict.UNDECIDED,
    )


def identities(
    device: str, points: Mapping[str, float], *, v_nominal_v: float, floor_w: float = NOTHING_W
) -> list[Line]:
    """Check what needs no reference; points are in W, var, VA, V, A, Hz.

    Names: ``p1 p2 p3 p q1 q2 q3 q s v1 v2 v3 i1 i2 i3 pf f``; a check whose points are missing is
    left out. ``v_nominal_v`` is the phase voltage the meter should see; powers below ``floor_w``
    say nothing, and that much may differ between values of two instants.
    """
    lines: list[Line] = []
    for letter in ("p", "q"):
        parts = [points.get(f"{letter}{n}") for n in (1, 2, 3)]
        total = points.get(letter)
        if total is None or None in parts:
            continue
        summed = math.fsum(x for x in parts if x is not None)
        size = max(abs(total), abs(summed))
        id_ = f"sum-{letter}"
        if size < floor_w:
            lines.append(_unsaid(id_, device, total, summed))
            continue
        lines.append(
            compare(
                id_,
                f"{device} {letter}",
                total,
                summed,
                tolerance=SUM_TOLERANCE_RATIO * size,
                what=f"total {letter.upper()} and the sum of its phases differ",
                mend="check type, word order and scale of the total and of the phases",
            )
        )
    lines += _apparent(device, points, floor_w=floor_w)
    lines += _phases(device, points, v_nominal_v=v_nominal_v, floor_w=floor_w)
    if "f" in points:
        inside = F_HZ_MIN <= points["f"] <= F_HZ_MAX
        lines.append(
            Line(
                id="f",
                where=f"{device} f",
                value=points["f"],
                reference=50.0,
                tolerance=3.0,
                verdict=Verdict.OK,
            )
            if inside
            else compare(
                "f",
                f"{device} f",
                points["f"],
                50.0,
                tolerance=3.0,
                what="the frequency is not one a grid has",
                mend="check address, word order and scale of f",
            )
        )
    return lines


def _apparent(device: str, points: Mapping[str, float], *, floor_w: float) -> list[Line]:
    if not {"p", "q", "s"} <= points.keys():
        return []
    computed = math.hypot(points["p"], points["q"])
    if max(computed, abs(points["s"])) < floor_w:
        return [_unsaid("s2", device, points["s"], computed)]
    return [
        compare(
            "s2",
            f"{device} s",
            points["s"],
            computed,
            tolerance=S_TOLERANCE_RATIO * max(computed, abs(points["s"])),
            what="S² and P² + Q² differ",
            mend="check units and scales of P, Q and S",
        )
    ]


def _phases(
    device: str, points: Mapping[str, float], *, v_nominal_v: float, floor_w: float
) -> list[Line]:
    lines: list[Line] = []
    for n in (1, 2, 3):
        v = points.get(f"v{n}")
        if v is not None:
            lines.append(
                compare(
                    f"v-{n}",
                    f"{device} v{n}",
                    v,
                    v_nominal_v,
                    tolerance=(V_RATIO_MAX - 1) * v_nominal_v,
                    what=f"voltage L{n} is far from nominal",
                    mend="check voltage leads, VT ratio, and the point's type and word order",
                )
            )
        i, p = points.get(f"i{n}"), points.get(f"p{n}")
        if v is None or i is None or p is None:
            continue
        apparent = v * i
        q = points.get(f"q{n}")
        if q is not None:
            computed = math.hypot(p, q)
        elif points.get("pf"):
            computed = abs(p / points["pf"])
        else:
            computed = apparent if abs(p) <= apparent * (1 + S_TOLERANCE_RATIO) else abs(p)
        if max(apparent, computed) < floor_w / 3:
            lines.append(_unsaid(f"pvi-{n}", f"{device} L{n}", computed, apparent))
            continue
        lines.append(
            compare(
                f"pvi-{n}",
                f"{device} L{n}",
                computed,
                apparent,
                tolerance=S_TOLERANCE_RATIO * max(apparent, computed) + floor_w / 6,
                what=f"power of L{n} is not V · I",
                mend="check units and scales of voltage, current and power of this phase",
            )
        )
    return lines


def counters(
    device: str,
    *,
    p_w_mean: float,
    span_s: float,
    import_wh: tuple[int, int],
    export_wh: tuple[int, int],
    resolution_wh: int,
    import_positive: bool,
) -> list[Line]:
    """Hold the growth of both counters over a span against the mean power.

    Undecided while the energy is below twenty steps of the counter: 5 % would be one step.
    """
    lines: list[Line] = []
    for name, (first, last) in (("import", import_wh), ("export", export_wh)):
        if last < first:
            lines.append(
                _line(
                    f"grows-{name}",
                    f"{device} {name}",
                    last,
                    first,
                    0.0,
                    f"the {name} counter fell from {first} to {last} Wh",
                    "check type and word order of the counter",
                    "counter-fell",
                )
            )
    grown_wh = (import_wh[1] - import_wh[0]) - (export_wh[1] - export_wh[0])
    expected_wh = p_w_mean * span_s / 3600 * (1 if import_positive else -1)
    if lines:
        return lines
    if max(abs(expected_wh), abs(grown_wh)) < 20 * resolution_wh:
        return [_unsaid("de-dt", f"{device} counters", grown_wh, expected_wh)]
    return [
        compare(
            "de-dt",
            f"{device} counters",
            grown_wh,
            expected_wh,
            tolerance=0.05 * abs(expected_wh) + 2 * resolution_wh,
            what="the counters do not grow as the power says",
            mend="check unit and scale of the counters and which of them is import",
        )
    ]


def pair(
    where: str, first_w: float, second_w: float, *, s_va: float, ct_primary_a: int | None = None
) -> Line:
    """Hold a meter against the converter it meters, both positive when injecting.

    Undecided below 5 % of the rating, where noise and auxiliaries are as large as the tolerance.
    """
    size = max(abs(first_w), abs(second_w))
    if abs(second_w) < 0.05 * s_va and size < 0.05 * s_va:
        return _unsaid("pair", where, first_w, second_w)
    line = compare(
        "pair",
        where,
        first_w,
        second_w,
        tolerance=PAIR_TOLERANCE_RATIO * abs(second_w) + 0.005 * s_va,
        what="meter and converter differ",
        mend="compare the CT nameplate with the meter's setting, then check scale and unit",
    )
    if line.finding is None or not second_w:
        return line
    named = name_ratio(abs(first_w / second_w), ct_primary_a=ct_primary_a)
    if ct_primary_a is None or named is None or line.finding.code == "sign":
        return line
    return _line(
        "pair",
        where,
        first_w,
        second_w,
        line.tolerance,
        f"meter and converter differ: {first_w:.6g} against {second_w:.6g} W ({named.meaning})",
        line.finding.mend,
        named.code,
    )


def busbar(first: str, second: str, a: Mapping[str, float], b: Mapping[str, float]) -> list[Line]:
    """Two devices on one busbar show the same voltage and frequency."""
    lines = []
    for name, tolerance in (("v1", None), ("v2", None), ("v3", None), ("f", BUSBAR_F_HZ)):
        if name in a and name in b:
            lines.append(
                compare(
                    f"busbar-{name}",
                    f"{first} {name}",
                    a[name],
                    b[name],
                    tolerance=BUSBAR_V_RATIO * abs(b[name]) if tolerance is None else tolerance,
                    what=f"{first} and {second} are on one busbar and differ in {name}",
                    mend="check type, word order and scale of the one that is off",
                )
            )
    return lines


def balance(sop: str, terminals_w: Mapping[str, float], *, losses_w_max: float) -> Line:
    """Σ P of a SOP's terminals plus its losses is zero: losses lie between 0 and their limit."""
    losses_w = -math.fsum(terminals_w.values())
    noise_w = 0.01 * max((abs(p) for p in terminals_w.values()), default=0.0) + NOTHING_W
    if -noise_w <= losses_w <= losses_w_max + noise_w:
        return Line(
            id="balance",
            where=sop,
            value=losses_w,
            reference=0.0,
            tolerance=losses_w_max,
            verdict=Verdict.OK,
        )
    what = (
        f"the terminals sum to {-losses_w:.0f} W: more comes out than goes in"
        if losses_w < 0
        else f"{losses_w:.0f} W are missing between the terminals, more than the losses may be"
    )
    return _line(
        "balance",
        sop,
        losses_w,
        0.0,
        losses_w_max,
        what,
        "one terminal has a wrong sign or scale; find it with: sopgw check signs",
        "balance",
    )


def references(
    device: str, points: Mapping[str, float], given: Sequence[tuple[str, float, float]]
) -> list[Line]:
    """Hold points against values a person read elsewhere: (point, value, tolerance)."""
    lines = []
    for name, value, tolerance in given:
        if name not in points:
            lines.append(
                _line(
                    f"ref:{name}",
                    f"{device} {name}",
                    math.nan,
                    value,
                    tolerance,
                    f"{device} has no point {name}",
                    "list them with: sopgw point ls",
                    "no-point",
                )
            )
            continue
        lines.append(
            compare(
                f"ref:{name}",
                f"{device} {name}",
                points[name],
                value,
                tolerance=tolerance,
                what="the reading and the reference differ",
                mend=f"see every decoding with: sopgw point decode {device} <register>",
            )
        )
    return lines
