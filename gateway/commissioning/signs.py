"""Passive check of signs: what power in one direction must do to meter and counters.

No write; it uses whatever flows. Below 5 % of the rating nothing is said, of the converter as of
the meter: a meter that reads nothing agrees with nobody.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.commissioning.finding import Finding, Punch, Verdict

FLOOR_RATIO = 0.05  # of the rating: below it auxiliaries and noise may turn the sign
SURE_RATIO = 0.8  # of the samples with power have to agree, or to be against


@dataclass(frozen=True, slots=True, kw_only=True)
class SignSample:
    """Converter and meter at one instant; ``meter_p_w`` in the meter's own sign."""

    t_s: float
    converter_p_w: float
    meter_p_w: float
    phases_p_w: tuple[float, ...] = ()
    import_wh: int | None = None
    export_wh: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignResult:
    """Verdict with the findings, and in how many samples converter and meter had enough power."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    loaded_count: int
    told_count: int = 0  # of the loaded, those in which the meter had enough as well


def judge(
    meter: str, samples: Sequence[SignSample], *, s_va: float, import_positive: bool
) -> SignResult:
    """Hold the meter's signs against the converter's.

    ``import_positive``: what the profile declares of the meter's active power.
    """
    loaded = [s for s in samples if abs(s.converter_p_w) >= FLOOR_RATIO * s_va]
    if len(loaded) < 3:
        return SignResult(verdict=Verdict.UNDECIDED, findings=(), loaded_count=len(loaded))
    sign = -1.0 if import_positive else 1.0
    findings: list[Finding] = []
    told = [s for s in loaded if abs(s.meter_p_w) >= FLOOR_RATIO * s_va]
    against_count = sum(sign * s.meter_p_w * s.converter_p_w < 0 for s in told)
    agree_count = len(told) - against_count
    if against_count >= SURE_RATIO * len(loaded):
        findings.append(
            Finding(
                code="sign",
                where=f"{meter} p",
                what=f"{meter} counts opposite to what its profile declares",
                mend="all CTs face the other way, or the profile's sign is wrong: "
                f"sopgw check wiring {meter} tells which",
                punch=Punch.A,
            )
        )
    findings += _phases(meter, loaded, sign=sign)
    findings += _counters(meter, samples, s_va=s_va)
    verdict = Verdict.OK if agree_count >= SURE_RATIO * len(loaded) else Verdict.UNDECIDED
    if findings:
        verdict = Verdict.FAULT
    return SignResult(
        verdict=verdict,
        findings=tuple(findings),
        loaded_count=len(loaded),
        told_count=len(told),
    )


def _phases(meter: str, loaded: Sequence[SignSample], *, sign: float) -> list[Finding]:
    """A phase that flows against the two others while the converter runs balanced."""
    full = [s for s in loaded if len(s.phases_p_w) == 3]
    if len(full) < 3:
        return []
    shares = [
        statistics.median(sign * s.phases_p_w[i] / (s.converter_p_w / 3) for s in full)
        for i in range(3)
    ]
    turned = [i for i in range(3) if shares[i] < -0.5]
    if not turned or len(turned) == 3:
        return []
    return [
        Finding(
            code="phase-sign",
            where=f"{meter} L{i + 1}",
            what=f"L{i + 1} flows against the converter: its CT is probably reversed",
            mend=f"make sure with: sopgw check wiring {meter}",
        )
        for i in turned
    ]


def _counters(meter: str, samples: Sequence[SignSample], *, s_va: float) -> list[Finding]:
    """While the converter injects, export grows; while it absorbs, import does."""
    with_counters = [s for s in samples if s.import_wh is not None and s.export_wh is not None]
    if len(with_counters) < 2:
        return []
    first, last = with_counters[0], with_counters[-1]
    one_way = {s.converter_p_w > 0 for s in with_counters}
    if len(one_way) != 1 or any(abs(s.converter_p_w) < FLOOR_RATIO * s_va for s in with_counters):
        return []
    injecting = one_way == {True}
    assert first.import_wh is not None
    assert last.import_wh is not None
    assert first.export_wh is not None
    assert last.export_wh is not None
    imported = last.import_wh - first.import_wh
    exported = last.export_wh - first.export_wh
    right, wrong = (exported, imported) if injecting else (imported, exported)
    if wrong <= right or wrong < 5:
        return []
    grew, should = ("import", "export") if injecting else ("export", "import")
    return [
        Finding(
            code="counters-swapped",
            where=f"{meter} counters",
            what=f"the {grew} counter grew by {wrong} Wh while the converter "
            f"{'injected' if injecting else 'absorbed'}; {should} should have grown",
            mend="swap import and export in the profile, or turn all CTs: "
            f"sopgw check wiring {meter} tells which",
            punch=Punch.A,
        )
    ]
