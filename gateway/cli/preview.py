"""What an operation would move: held against the site's limits, shown before consent.

Imported inside commands only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from gateway.cli.field import Field, Preview
from gateway.cli.output import ExitCode, fail
from gateway.commissioning.plan import Level, level_of
from gateway.commissioning.session import LIFE_S, Power, Session
from gateway.model.terminal import Sop, Terminal

Targets = Mapping[str, tuple[Power, ...]]  # what each terminal is brought to, first one first


async def preview(
    field: Field, targets: Targets, *, command: tuple[str, ...], lines: Sequence[str] = ()
) -> Preview:
    """Say what an operation would write, with the first frame in full."""
    refuse_beyond_guards(field, targets)
    sop = field.equipment.sop
    lines = list(lines)
    for terminal_id, powers in targets.items():
        terminal = sop.terminal(terminal_id)
        lines.append(
            f"{terminal_id} up to {_reach([p.p_w for p in powers])} kW "
            f"{_reach([p.q_var for p in powers])} kvar; guard {_guard(terminal)}, ramp "
            f"{terminal.ramp_w_per_s / 1000:.0f} kW/s, setpoints live {LIFE_S} s and more"
        )
    rest_w = _rest_w(targets)
    if any(rest_w):
        master = sop.terminal(sop.master)
        lines.append(
            f"{master.id} carries the rest, up to {_reach(rest_w)} kW, and the losses; "
            f"guard {_guard(master)}"
        )
    lines.append(
        f"on failure the station goes to zero by its own watchdog "
        f"({field.equipment.device_timeout_ms / 1000:.0f} s); at the end everything is at zero"
    )
    frame = await _frame(field, {t: powers[0] for t, powers in targets.items()})
    level = level_of_targets(sop, targets)
    return Preview(command=command, level=level, lines=tuple(lines), frames=(frame,))


def refuse_beyond_guards(field: Field, targets: Targets) -> None:
    """End with exit 5 where a setpoint is beyond what the site allows.

    The master is told no power: it carries what the others do not, and its guard holds as theirs.
    Losses are left out there, as in the envelope of trades: they are what a guard is wider for.
    """
    sop = field.equipment.sop
    told = [(sop.terminal(t), power) for t, powers in targets.items() for power in powers]
    told += [(sop.terminal(sop.master), Power(p_w=p_w)) for p_w in _rest_w(targets)]
    for terminal, power in told:
        size_va = math.hypot(power.p_w, power.q_var)
        if not terminal.p_w_min <= power.p_w <= terminal.p_w_max:
            what = f"{power.p_w / 1000:.0f} kW is outside its guard {_guard(terminal)}"
        elif size_va > terminal.s_va:
            what = f"{size_va / 1000:.0f} kVA is beyond its {terminal.s_va / 1000:.0f} kVA"
        else:
            continue
        as_master = " as the master" if terminal.id == sop.master else ""
        fail(
            ExitCode.REFUSED,
            f"{terminal.id}{as_master} {what}",
            code="H004",
            where=terminal.id,
            help="choose less power",
        )


def _rest_w(targets: Targets) -> tuple[int, int]:
    """Return the least and the most the master may have to give while the others move."""
    low_w = sum(min(0, *(p.p_w for p in powers)) for powers in targets.values())
    high_w = sum(max(0, *(p.p_w for p in powers)) for powers in targets.values())
    return -high_w, -low_w


def level_of_targets(sop: Sop, targets: Targets) -> Level:
    """Return the level of what moves most; the master moves as much as the others together."""
    levels = [
        level_of(p_w=power.p_w, q_var=power.q_var, s_va=sop.terminal(terminal_id).s_va)
        for terminal_id, powers in targets.items()
        for power in powers
    ]
    levels += [level_of(p_w=p_w, s_va=sop.terminal(sop.master).s_va) for p_w in _rest_w(targets)]
    return Level.SEVERE if Level.SEVERE in levels else Level.MODERATE


def _guard(terminal: Terminal) -> str:
    return f"{terminal.p_w_min / 1000:.0f} … {terminal.p_w_max / 1000:.0f} kW"


def _reach(values: Sequence[int]) -> str:
    """Write how far values in W go, in kW: one way, or both."""
    low, high = min(0, *values), max(0, *values)
    if low and high:
        return f"{low / 1000:+.1f} … {high / 1000:+.1f}"
    return f"{(low or high) / 1000:+.1f}"


async def _frame(field: Field, powers: Mapping[str, Power]) -> str:
    """Write what would go over the wire first."""
    session = Session(field.rack, journal=None, say=lambda _: None)
    instruction = session.instruction(powers)
    if field.equipment.converters:
        station = field.rack.station()
        await station.read()  # the scale factors of set values are the device's own
        words = station.staged_block(instruction).hex(" ", 2).upper()
        return f"set values of {', '.join(s.terminal for s in instruction.setpoints)} = {words}"
    staged = session.station.staged_block(instruction)
    at = field.equipment.station.profile.each_terminal
    if at is None:  # OPC UA: the block travels in one call
        return f"Select, int32 × {len(staged) // 4} = {staged.hex(' ', 4).upper()}"
    first = at.block("staged").register
    words = " ".join(staged[i : i + 2].hex().upper() for i in range(0, len(staged), 2))
    return f"FC16 {first.text} ×{len(staged) // 2} = {words}"
