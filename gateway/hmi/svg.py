"""Small plots as SVG text: lines, steps and paired bars, with units, UTC ticks and words beside.

Pure functions of values. Nothing here names a colour: the marks carry class names and the page's
style sheet decides, so that one plot serves light, dark and forced colours, and a strict content
security policy. Every distinction has a second cue: dashes, markers or hatching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Literal

Point = tuple[float, float | None]
MINUTE_S, HOUR_S = 60, 3600
TICK_STEPS_S = (
    *(1, 2, 5, 10, 15, 30),
    *(m * MINUTE_S for m in (1, 2, 5, 10, 15, 30)),
    *(h * HOUR_S for h in (1, 2, 3, 6, 12, 24)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line over time: (UTC microseconds, value) pairs; None as value breaks the line."""

    label: str
    points: Sequence[Point]
    look: Literal["set", "measured", "limit", "other"] = "measured"
    step: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One pair of bars; ``mark`` is a short word beside it, ``abnormal`` chooses the hatching."""

    label: str
    contracted_kwh: float
    delivered_kwh: float
    mark: str = ""
    abnormal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time span to shade behind the lines, with its word in the description."""

    label: str
    start_us: int
    end_us: int


def number(value: float, digits: int = 2) -> str:
    """Return a coordinate without needless zeros, so that equal input gives equal bytes."""
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"
    return "0" if text in {"-0", ""} else text


def nice_step(low: float, high: float, count: int) -> float:
    """Return the round step (1, 2, 2.5 or 5 times a power of ten) that gives about ``count``."""
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values inside the range; at least one where the range spans a step."""
    step = nice_step(low, high, count)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def value_range(values: Iterable[float], margin: float = 0.06) -> tuple[float, float]:
    """Return the ends of an axis: the values with a margin; equal values get room around them."""
    every = list(values)
    low, high = min(every), max(every)
    size = max(abs(high), abs(low), 1.0)
    room = (high - low) * margin if high - low > 1e-6 * size else size * margin
    return low - room, high + room


def time_ticks(start_us: float, end_us: float, count_max: int = 8) -> tuple[list[int], str]:
    """Return whole UTC instants between the two ends, and the strftime pattern that tells them."""
    span_s = max((end_us - start_us) / 1e6, 1e-6)
    step_s = next((s for s in TICK_STEPS_S if span_s / s <= count_max), None)
    if step_s is None:
        step_s = 86400 * math.ceil(span_s / 86400 / count_max)
    step_us = step_s * 1_000_000
    first = -(-int(start_us) // step_us) * step_us
    pattern = "%H:%M:%S" if step_s < 60 else "%H:%M" if step_s < 86400 else "%m-%d"
    return list(range(first, int(end_us) + 1, step_us)), pattern


def utc_text(utc_us: float, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return an instant in UTC by the given pattern."""
    return datetime.fromtimestamp(utc_us / 1e6, tz=UTC).strftime(pattern)


def thin(points: Sequence[Point], columns: int) -> list[Point]:
    """Keep what a plot of that many columns can show: ends, extremes and gaps of each column."""
    if len(points) <= 4 * columns or not points:
        return list(points)
    low, high = points[0][0], points[-1][0]
    width = (high - low) / columns or 1
    kept: list[Point] = []
    column: list[Point] = []
    current = 0
    for point in points:
        index = int((point[0] - low) / width)
        if index != current:
            kept += _telling(column)
            column, current = [], index
        column.append(point)
    return kept + _telling(column)


def _telling(column: list[Point]) -> list[Point]:
    """Return first, least, greatest, last and the gaps of a column, in order of time."""
    if len(column) <= 4:
        return column
    values = [i for i, p in enumerate(column) if p[1] is not None]
    keep = {0, len(column) - 1} | {i for i, p in enumerate(column) if p[1] is None}
    if values:
        keep.add(min(values, key=lambda i: column[i][1] or 0))
        keep.add(max(values, key=lambda i: column[i][1] or 0))
    return [column[i] for i in sorted(keep)]


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the straight map that takes ``low`` to ``start`` and ``high`` to ``end``."""
    slope = (end - start) / ((high - low) or 1)
    return lambda value: start + (value - low) * slope


def path(
    points: Sequence[Point],
    x: Callable[[float], float],
    y: Callable[[float], float],
    *,
    step: bool = False,
) -> str:
    """Return the ``d`` of a path through the points, broken where a value is None."""
    parts: list[str] = []
    pen_down = False
    for at, value in points:
        if value is None:
            if pen_down and step:
                parts.append(f"H{number(x(at))}")
            pen_down = False
            continue
        if not pen_down:
            parts.append(f"M{number(x(at))} {number(y(value))}")
        elif step:
            parts.append(f"H{number(x(at))}V{number(y(value))}")
        else:
            parts.append(f"L{number(x(at))} {number(y(value))}")
        pen_down = True
    return "".join(parts)


def open_svg(*, width: int, height: int, title: str, description: str, name: str) -> str:
    """Return the opening of an accessible picture: role, title and description in words."""
    return (
        f'<svg class="plot" role="img" viewBox="0 0 {width} {height}" '
        f'aria-labelledby="{name}-t {name}-d" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>'
    )


def text(x: float, y: float, words: str, css: str = "tick", anchor: str = "start") -> str:
    """Return a text mark."""
    return (
        f'<text class="{css}" x="{number(x)}" y="{number(y)}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a straight mark."""
    return (
        f'<line class="{css}" x1="{number(x1)}" y1="{number(y1)}" '
        f'x2="{number(x2)}" y2="{number(y2)}"/>'
    )


def rect(x: float, y: float, width: float, height: float, css: str) -> str:
    """Return a rectangle; a negative width is drawn as none."""
    return (
        f'<rect class="{css}" x="{number(x)}" y="{number(y)}" '
        f'width="{number(max(width, 0))}" height="{number(max(height, 0))}"/>'
    )


def time_plot(
    series: Sequence[Series],
    *,
    name: str,
    title: str,
    description: str,
    unit: str,
    spans: Sequence[Span] = (),
    width: int = 720,
    height: int = 200,
    window_us: tuple[int, int] | None = None,
) -> str:
    """Draw lines and steps over UTC; ``unit`` stands at the axis, the looks in a legend."""
    every = [p for s in series for p in s.points]
    values = [v for _, v in every if v is not None]
    if not every or not values:
        return empty_plot(name=name, title=title, description=description, width=width)
    start, end = window_us or (int(min(p[0] for p in every)), int(max(p[0] for p in every)))
    end = max(end, start + 1)
    low, high = value_range(values)
    ticks_y = nice_ticks(low, high)
    digits = max(len(number(t, 3).partition(".")[2]) for t in ticks_y)
    left, top, right, bottom = 58.0, 26.0, width - 12.0, height - 24.0
    x = scale(start, end, left, right)
    y = scale(low, high, bottom, top)
    out = [open_svg(width=width, height=height, title=title, description=description, name=name)]
    out += [
        rect(x(s.start_us), top, x(s.end_us) - x(s.start_us), bottom - top, "span") for s in spans
    ]
    for tick in ticks_y:
        out.append(line(left, y(tick), right, y(tick), "zero" if tick == 0 else "grid"))
        out.append(text(left - 6, y(tick) + 4, signed(tick, digits), anchor="end"))
    instants, pattern = time_ticks(start, end, int((right - left) / 80))
    for instant in instants:
        out.append(line(x(instant), top, x(instant), bottom, "grid"))
        if x(instant) > right - (64 if pattern.endswith("S") else 48):
            continue  # leaves room for the word UTC at the end of the axis
        out.append(text(x(instant), bottom + 16, utc_text(instant, pattern), anchor="middle"))
    out.append(text(right, bottom + 16, "UTC", anchor="end"))
    out.append(text(left - 6, top - 10, unit, "unit", anchor="end"))
    out += legend(series, left=left, baseline=top - 10)
    for s in series:
        d = path(thin(s.points, int(right - left)), x, y, step=s.step)
        out.append(f'<path class="trace {s.look}" d="{d}"/>')
    return "".join(out) + "</svg>"


def signed(value: float, digits: int = 0) -> str:
    """Return a number with the true minus sign."""
    return f"{value:.{digits}f}".replace("-", "−") if value else f"{0:.{digits}f}"


def legend(series: Sequence[Series], *, left: float, baseline: float) -> list[str]:
    """Return a sample of each look with its label, in one row."""
    out: list[str] = []
    at = left
    for s in {(s.label, s.look): s for s in series}.values():  # two limits share one sample
        out.append(line(at, baseline - 4, at + 26, baseline - 4, f"trace {s.look}"))
        out.append(text(at + 32, baseline, s.label, "label"))
        at += 32 + 7 * sum(2 if ord(c) > 0x2E80 else 1 for c in s.label) + 18
    return out


def empty_plot(*, name: str, title: str, description: str, width: int = 720) -> str:
    """Say in the plot's place that there is nothing to draw."""
    return (
        open_svg(width=width, height=48, title=title, description=description, name=name)
        + rect(0.5, 0.5, width - 1, 47, "empty")
        + text(16, 29, description, "label")
        + "</svg>"
    )


def bars(
    rows: Sequence[Bar],
    *,
    name: str,
    title: str,
    description: str,
    words: tuple[str, str],
    width: int = 720,
) -> str:
    """Draw contracted (outline) and delivered (fill, lower half) energy, one row each, in kWh."""
    if not rows:
        return empty_plot(name=name, title=title, description=description, width=width)
    left, top, pitch = 230.0, 26.0, 30
    right = width - 130.0
    height = int(top) + pitch * len(rows) + 26
    most = max(max(r.contracted_kwh, r.delivered_kwh) for r in rows) or 1.0
    ticks = nice_ticks(0, most)
    x = scale(0, most, left, right)
    bottom = top + pitch * len(rows)
    out = [open_svg(width=width, height=height, title=title, description=description, name=name)]
    out.append(rect(left, 6, 26, 12, "contracted"))
    out.append(text(left + 32, 16, words[0], "label"))
    second = left + 48 + 7 * sum(2 if ord(c) > 0x2E80 else 1 for c in words[0])
    out.append(rect(second, 6, 26, 12, "delivered"))
    out.append(text(second + 32, 16, words[1], "label"))
    digits = max(len(number(t, 3).partition(".")[2]) for t in ticks)
    for tick in ticks:
        out.append(line(x(tick), top, x(tick), bottom, "grid"))
        out.append(text(x(tick), bottom + 16, signed(tick, digits), anchor="middle"))
    out.append(text(right + 16, bottom + 16, "kWh", "unit"))
    for index, row in enumerate(rows):
        y = top + pitch * index + 4
        out.append(text(left - 8, y + 15, row.label, "label", "end"))
        out.append(rect(left, y, x(row.contracted_kwh) - left, 22, "contracted"))
        css = "delivered abnormal" if row.abnormal else "delivered"
        out.append(rect(left, y + 11, x(row.delivered_kwh) - left, 11, css))
        reach = max(x(row.contracted_kwh), x(row.delivered_kwh))
        out.append(text(reach + 8, y + 15, row.mark, "label"))
    return "".join(out) + "</svg>"


def small_bars(counts: Sequence[int], *, title: str) -> str:
    """Draw a histogram the height of a line of text, with its words for who does not see it."""
    pitch, height, most = 6, 16, max(counts)
    out = [
        f'<svg class="small-bars" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {pitch * len(counts)} {height}" width="{pitch * len(counts)}" '
        f'height="{height}">'
    ]
    for index, count in enumerate(counts):
        tall = max(1.0, height * count / most) if count else 0.0
        if tall:
            out.append(rect(pitch * index, height - tall, pitch - 1, tall, "delivered"))
    return "".join(out) + "</svg>"
