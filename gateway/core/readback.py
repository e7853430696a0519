"""Read-back: what a device says after a write, compared with what was meant.

A device that says how much it can carry, and holds that much of what it was sent, follows the
instruction as far as it can: it is derated. One that holds less without saying so differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import StationTelemetry, TerminalTelemetry

CLOSE_PERCENT = 2  # of what is available: it may move while the registers are read


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """The device holds the instruction: same id, same setpoints, or all it can carry of them."""

    active: Mapping[str, int]
    reasons: tuple[Reason, ...] = ()  # by how much a terminal is derated


@dataclass(frozen=True, slots=True, kw_only=True)
class Differed:
    """The device holds something else, with every difference named."""

    active: Mapping[str, int]
    reasons: tuple[Reason, ...]


Verdict = Confirmed | Differed


def active_setpoints(station: StationTelemetry) -> dict[str, int]:
    """Setpoints the station says it follows, in W by terminal."""
    return {t.id: t.p_w_set_active for t in station.terminals}


def holds_power(station: StationTelemetry, master: str) -> bool:
    """Whether power is held at a terminal, but for the one that is the master at the device now.

    ``master`` is the site file's: it may have been changed while another one carried power.
    """
    residual = station.master or master
    return any(p_w for t, p_w in active_setpoints(station).items() if t != residual)


def judge(
    *,
    setpoints: Mapping[str, int],
    instr_id: int,
    master: str,
    station: StationTelemetry,
    q_var: Mapping[str, int] | None = None,
    separate: bool = False,
) -> Verdict:
    """Compare the echo with the instruction; the master's power is a residual and not compared.

    Controllers that are ``separate`` keep no id: 0 says nothing, their set values do.
    """
    active = active_setpoints(station)
    rows = {t.id: t for t in station.terminals}
    reasons, derated = [], []
    if station.instruction_id != instr_id and not (separate and station.instruction_id == 0):
        detail = f"device reports instruction {station.instruction_id:#010x}, sent {instr_id:#010x}"
        reasons.append(Reason(code=ReasonCode.READBACK_DIFFERS, detail=detail))
    for terminal, p_w in setpoints.items():
        if terminal == master or active.get(terminal) == p_w:
            continue
        row = rows.get(terminal)
        if row is not None and carries_all_it_can(row, p_w, (q_var or {}).get(terminal, 0)):
            detail = (
                f"{terminal} holds {row.p_w_set_active} W of {p_w} W, "
                f"{row.s_va_available} VA are available"
            )
            derated.append(Reason(code=ReasonCode.DERATED, detail=detail))
        else:
            detail = f"{terminal} holds {active.get(terminal)} W, sent {p_w} W"
            reasons.append(Reason(code=ReasonCode.READBACK_DIFFERS, detail=detail))
    if reasons:
        return Differed(active=active, reasons=tuple(reasons))
    return Confirmed(active=active, reasons=tuple(derated))


def carries_all_it_can(row: TerminalTelemetry, p_w: int, q_var: int = 0) -> bool:
    """Tell whether a terminal took a setpoint, cannot carry it, and holds what it can of it."""
    available_va, held_w = row.s_va_available, row.p_w_set_active
    if row.p_w_set_received != p_w or p_w * p_w + q_var * q_var <= available_va * available_va:
        return False
    if abs(held_w) >= abs(p_w) or held_w * p_w < 0:
        return False
    # Active or reactive power first: the device's choice says how little may be left.
    most_va = available_va * (100 + CLOSE_PERCENT) // 100
    least_va = available_va * (100 - CLOSE_PERCENT) // 100
    return abs(held_w) <= most_va and held_w * held_w + q_var * q_var >= least_va * least_va
