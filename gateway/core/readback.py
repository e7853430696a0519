"""Read-back: what a device says after a write, compared with what was meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import StationTelemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The device holds the instruction: same id, same setpoints."""

    active: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Differed:
    """The device holds something else, with every difference named."""

    active: Mapping[str, int]
    reasons: tuple[Reason, ...]


Verdict = Confirmed | Differed


def active_setpoints(station: StationTelemetry) -> dict[str, int]:
    """Setpoints the station says it follows, in W by terminal."""
    return {t.id: t.p_w_set_active for t in station.terminals}


def judge(
    *, setpoints: Mapping[str, int], instr_id: int, master: str, station: StationTelemetry
) -> Verdict:
    """Compare the echo with the instruction; the master's power is a residual and not compared."""
    active = active_setpoints(station)
    reasons = []
    if station.instruction_id != instr_id:
        detail = f"device reports instruction {station.instruction_id:#010x}, sent {instr_id:#010x}"
        reasons.append(Reason(code=ReasonCode.READBACK_DIFFERS, detail=detail))
    for terminal, p_w in setpoints.items():
        if terminal != master and active.get(terminal) != p_w:
            detail = f"{terminal} holds {active.get(terminal)} W, sent {p_w} W"
            reasons.append(Reason(code=ReasonCode.READBACK_DIFFERS, detail=detail))
    if reasons:
        return Differed(active=active, reasons=tuple(reasons))
    return Confirmed(active=active)
