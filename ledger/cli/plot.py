"""Small SVG charts for pages and documents: lines with marks, and bars around zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = ("#1f5f8b", "#c4572e", "#3d7a3a", "#7a4d8f", "#9a7b1c", "#4a4a4a", "#2a8f8f", "#b03a6a")
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 78, 150, 28, 44
TICKS = 5
PLACES_MAX = 25
"""More numbers than this under an axis run into each other."""


Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve with its name, and the point on it that matters."""

    name: str
    points: Sequence[Point]
    mark: Point | None = None


class Frame:
    """Maps values to the drawing area."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.low_x, self.high_x = _span(xs)
        low, high = _span((*ys, 0.0))
        self.step_y = round_step((high - low) / TICKS)
        self.low_y = math.floor(low / self.step_y) * self.step_y
        self.high_y = math.ceil(high / self.step_y) * self.step_y

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        share = (value - self.low_x) / (self.high_x - self.low_x)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def axes(self, title: str, x_name: str, y_name: str) -> list[str]:
        """Title, grid and numbers."""
        parts = [
            f'<text x="{LEFT}" y="18" font-weight="bold">{escape(title)}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f"{escape(x_name)}</text>",
            f'<text x="14" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
            f'transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_name)}</text>',
        ]
        for k in range(round((self.high_y - self.low_y) / self.step_y) + 1):
            value = self.low_y + self.step_y * k
            y = self.y(value)
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>'
                f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(value)}</text>'
            )
        zero = self.y(0)
        ends = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{zero}" y2="{zero}"'
        parts.append(f'<line {ends} stroke="#666"/>')
        return parts


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if high > low else (low - 1, high + 1)


def round_step(size: float) -> float:
    """The next larger of 1, 2, 5 times a power of ten: numbers people read at a glance."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * 0.999)


def number(value: float) -> str:
    """Write a number for an axis."""
    size = abs(value)
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def lines(title: str, curves: Sequence[Line], *, x_name: str, y_name: str) -> str:
    """Draw curves with a legend; a mark is a ring on its curve."""
    points = [point for curve in curves for point in curve.points]
    frame = Frame([x for x, _ in points], [y for _, y in points])
    parts = frame.axes(title, x_name, y_name)
    for value in _places(sorted({x for x, _ in points})):
        parts.append(
            f'<text x="{frame.x(value)}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{number(value)}</text>'
        )
    for index, curve in enumerate(curves):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in curve.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if curve.mark is not None:
            x, y = frame.x(curve.mark[0]), frame.y(curve.mark[1])
            ring = f'fill="none" stroke="{colour}" stroke-width="3"'
            parts.append(f'<circle cx="{x}" cy="{y}" r="6" {ring}/>')
        parts.append(_legend(index, curve.name, colour))
    return _svg(title, parts)


def _places(xs: Sequence[float]) -> Sequence[float]:
    """Numbers under the axis: every place, or round ones where there are too many."""
    if len(xs) <= PLACES_MAX:
        return xs
    step = round_step((xs[-1] - xs[0]) / TICKS)
    first = math.ceil(xs[0] / step)
    return [k * step for k in range(first, math.floor(xs[-1] / step) + 1)]


def bars(title: str, values: Sequence[tuple[str, float]], *, y_name: str) -> str:
    """Draw named bars up and down from zero."""
    frame = Frame([0.0, float(max(1, len(values)))], [value for _, value in values])
    parts = frame.axes(title, "", y_name)
    for index, (name, value) in enumerate(values):
        colour = COLOURS[index % len(COLOURS)]
        left, right = frame.x(index + 0.15), frame.x(index + 0.85)
        top, bottom = sorted((frame.y(value), frame.y(0)))
        parts.append(
            f'<rect x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{max(bottom - top, 0.5):.1f}" fill="{colour}"/>'
            f'<text x="{(left + right) / 2:.1f}" y="{HEIGHT - BOTTOM + 16}" '
            f'text-anchor="middle">{escape(name)}</text>'
        )
        parts.append(_legend(index, f"{name} {number(value)}", colour))
    return _svg(title, parts)


def _legend(index: int, name: str, colour: str) -> str:
    y = TOP + 14 + 18 * index
    return (
        f'<rect x="{WIDTH - RIGHT + 12}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
        f'<text x="{WIDTH - RIGHT + 27}" y="{y}">{escape(name)}</text>'
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(title, quote=True)}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{inside}\n</svg>\n'
    )
