"""The overview's drawings: the one-line diagram of n terminals and the capability of each.

No flow animation: an arrow's direction, width and words carry the power. A value that is not
known is a dash, a fault a filled square with its words.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from gateway.hmi import figures
from gateway.hmi.language import Words
from gateway.hmi.state import SiteView, TerminalView
from gateway.hmi.svg import line, number, open_svg, rect, text

WIDTH, ROW, TOP = 960, 118, 34
BUS = WIDTH / 2
ARROW_MAX = 16.0  # width of an arrow at rated power, in units of the drawing


def one_line(view: SiteView, words: Words) -> str:
    """Draw feeders, converters and the DC bus, half of the terminals at each side."""
    half = (len(view.terminals) + 1) // 2
    height = TOP + ROW * max(half, 1) + 30
    stale = view.station_stale
    spoken = ". ".join(_said(t, words) for t in view.terminals)
    if stale:
        spoken = f"{words('reason.stale')}: {spoken}"
    dc = figures.known(view.v_dc_dv, "V", stale=stale)
    losses = figures.known(view.loss_w, "kW", stale=stale)
    out = [
        open_svg(
            width=WIDTH,
            height=height,
            title=words("overview.one_line"),
            description=f"{spoken}. {words('value.dc')} {dc}, {words('value.losses')} {losses}.",
            name="one-line",
        )
    ]
    bottom = TOP + ROW * max(half, 1) - 20
    out.append(line(BUS, TOP - 6, BUS, bottom, "bus"))
    out.append(text(BUS, TOP - 14, f"DC {dc}", "stale" if stale else "live", "middle"))
    out.append(text(BUS, bottom + 22, f"{words('value.losses')} {losses}", "label", "middle"))
    for place, terminal in enumerate(view.terminals):
        left = place < half
        y = TOP + ROW * (place if left else place - half) + 40
        out += _terminal(terminal, words, y=y, left=left, stale=stale)
    return "".join(out) + "</svg>"


def _said(terminal: TerminalView, words: Words) -> str:
    """Return a terminal in a sentence for those who do not see the drawing."""
    if terminal.p_w is None:
        return words("overview.said_unknown", terminal=terminal.id)
    key = "overview.said_in" if terminal.p_w >= 0 else "overview.said_out"
    return words(key, terminal=terminal.id, kw=figures.kw(abs(terminal.p_w)), state=terminal.state)


def _terminal(
    terminal: TerminalView, words: Words, *, y: float, left: bool, stale: bool
) -> list[str]:
    """Draw one row: feeder bar, line, converter, arrow to the bus, values beside."""

    def at(distance: float) -> float:
        """Place something by its distance from the drawing's edge."""
        return distance if left else WIDTH - distance

    def told(number: int | None, unit: str) -> str:
        return figures.known(number, unit, stale=stale)

    anchor, look = "start" if left else "end", "stale" if stale else "live"
    role = f" · {words('value.master')}" if terminal.master else ""
    box = min(at(270), at(330))
    out = [
        line(at(20), y - 34, at(20), y + 34, "feeder"),
        line(at(20), y, at(270), y, "wire"),
        line(at(330), y, BUS, y, "wire"),
        rect(box, y - 30, 60, 60, "converter"),
        line(box, y + 30, box + 60, y - 30, "converter"),
        text(box + 6, y - 14, "AC" if left else "DC", "label"),
        text(box + 54, y + 23, "DC" if left else "AC", "label", "end"),
        text(at(32), y - 40, f"{terminal.id} · {terminal.domain}{role}", "label", anchor),
        text(at(32), y - 10, told(terminal.p_w, "kW"), look, anchor),
        text(at(32), y + 22, told(terminal.q_var, "kvar"), look, anchor),
        text(at(140), y + 22, told(terminal.v_dv, "V"), look, anchor),
        text(box + 30, y + 46, terminal.state, "label", "middle"),
    ]
    if not terminal.master:  # its power is the others' residual, nobody sets it
        setpoint = f"◇ {told(terminal.set_p_w, 'kW')}"
        out.append(text(at(140), y - 10, setpoint, "setpoint", anchor))
    if not stale:
        out += _arrow(terminal, y=y, left=left)
    if terminal.faults:
        faults = ", ".join(f.replace("_", " ") for f in terminal.faults)
        out.append(rect(at(20) if left else at(20) - 14, y + 36, 14, 14, "alarm-1"))
        out.append(text(at(40), y + 48, faults, "alarm-text", anchor))
    elif terminal.limits:
        limits = ", ".join(v.replace("_", " ") for v in terminal.limits)
        out.append(text(at(32), y + 48, f"▽ {words('value.limited')}: {limits}", "label", anchor))
    return out


def _arrow(terminal: TerminalView, *, y: float, left: bool) -> list[str]:
    """Draw the power between converter and bus: toward the feeder when it injects."""
    if not terminal.p_w:
        return []
    share = min(abs(terminal.p_w) / terminal.s_va, 1.0)
    thick = 3 + (ARROW_MAX - 3) * share
    start, end = (345.0, BUS - 12) if left else (BUS + 12, WIDTH - 345.0)
    to_right = (terminal.p_w < 0) == left
    tip, tail = (end, start) if to_right else (start, end)
    neck = tip - 16 if to_right else tip + 16
    half = thick / 2
    corners = [
        (tail, y - half), (neck, y - half), (neck, y - half - 5), (tip, y),
        (neck, y + half + 5), (neck, y + half), (tail, y + half),
    ]  # fmt: skip
    points = " ".join(f"{number(px)},{number(py)}" for px, py in corners)
    return [f'<polygon class="arrow" points="{points}"/>']


def capability(terminal: TerminalView, words: Words, *, stale: bool = False) -> str:
    """Draw the circle of apparent power cut at the limits of P, with now and the setpoint.

    The point is hollow where its values are ``stale``.
    """
    size, reach = 230, 86.0
    middle = size / 2
    unit = reach / terminal.s_va

    def x(p_w: float) -> float:
        return middle + p_w * unit

    def y(q_var: float) -> float:
        return middle - q_var * unit

    apparent_va = None
    if terminal.p_w is not None and terminal.q_var is not None:
        apparent_va = round(math.hypot(terminal.p_w, terminal.q_var))
    used = (
        f"{figures.known(apparent_va, 'kVA', stale=stale)} / {figures.value(terminal.s_va, 'kVA')}"
        f" ({100 * apparent_va // terminal.s_va} %)"
        if apparent_va is not None
        else "–"
    )
    title = words("overview.capability", terminal=terminal.id)
    out = [
        open_svg(
            width=size,
            height=size + 22,
            title=title,
            description=words(
                "overview.capability_says",
                p=figures.known(terminal.p_w, "kW", stale=stale),
                q=figures.known(terminal.q_var, "kvar", stale=stale),
                used=used,
            ),
            name=f"pq-{terminal.id}",
        ),
        f'<circle class="outer" cx="{number(middle)}" cy="{number(middle)}" r="{number(reach)}"/>',
        f'<path class="region" d="{_region(terminal, x, y)}"/>',
        line(x(-terminal.s_va) - 8, middle, x(terminal.s_va) + 8, middle, "grid"),
        line(middle, y(terminal.s_va) - 8, middle, y(-terminal.s_va) + 8, "grid"),
        text(size - 2, middle - 5, "+P", "tick", "end"),
        text(middle + 5, 14, "+Q", "tick"),
        text(2, 14, terminal.id, "label"),
        text(middle, size + 14, used, "tick", "middle"),
    ]
    if terminal.polygon:
        corners = " ".join(f"{number(x(p))},{number(y(q))}" for p, q in terminal.polygon)
        out.append(f'<polygon class="measured-region" points="{corners}"/>')
    if terminal.set_p_w is not None:
        sx, sy = x(terminal.set_p_w), y(terminal.set_q_var or 0)
        out.append(f'<path class="diamond" d="M{number(sx)} {number(sy - 8)}l8 8l-8 8l-8 -8z"/>')
    if terminal.p_w is not None and terminal.q_var is not None:
        px, py = x(terminal.p_w), y(terminal.q_var)
        look = "outer" if stale else "now"
        out.append(f'<circle class="{look}" cx="{number(px)}" cy="{number(py)}" r="5"/>')
    return "".join(out) + "</svg>"


def _region(
    terminal: TerminalView, x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    """Return the outline of what is allowed: available apparent power inside the limits of P."""
    s_va = terminal.s_va_available if terminal.s_va_available is not None else terminal.s_va
    low, high = max(terminal.p_w_min, -s_va), min(terminal.p_w_max, s_va)
    steps = 48
    active = [low + (high - low) * k / steps for k in range(steps + 1)]
    upper = [(p, math.sqrt(max(s_va * s_va - p * p, 0.0))) for p in active]
    outline = [*upper, *((p, -q) for p, q in reversed(upper))]
    return "M" + "L".join(f"{number(x(p))} {number(y(q))}" for p, q in outline) + "Z"
