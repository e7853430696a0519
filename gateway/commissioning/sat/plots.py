"""Plots of the report as small SVG: plain lines, whole numbers, no fonts and no styles needed.

HTML shows them as they are, the PDF draws the same shapes; the figures stand in the tables.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

WIDTH, HEIGHT, EDGE = 560, 180, 10
LINE, SET, GRID = "#0b3c6b", "#3f2f73", "#9aa5ac"
POINTS_MAX = 400  # a report is read at this width; more points only make it longer

_TITLE = re.compile(r"<title>([^<]*)</title>")
Point = tuple[float, float]


def curve(measured: Sequence[Point], wanted: Sequence[Point], *, title: str) -> str:
    """Draw a measured curve over time with the set value as steps."""
    every = [*measured, *wanted]
    if len(measured) < 2:
        return ""
    x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
    y0, y1 = min(y for _, y in every), max(y for _, y in every)
    margin = 0.05 * (y1 - y0 or 1.0)
    frame = _Frame(x0, x1, y0 - margin, y1 + margin)
    steps: list[Point] = []
    for at, value in wanted:
        if steps:
            steps.append((at, steps[-1][1]))
        steps.append((at, value))
    step = max(1, len(measured) // POINTS_MAX)
    span = f"{x0:.1f} to {x1:.1f} s, {y0 / 1000:.1f} to {y1 / 1000:.1f} kW"
    return _svg(
        f"{title}: measured, and set (dashed); {span}",
        frame.zero(),
        frame.path(steps, SET, dashed=True),
        frame.path(measured[::step], LINE),
    )


def polygon(
    corners: Sequence[Point], targets: Sequence[Point], *, radius: float, title: str
) -> str:
    """Draw a capability polygon, the points asked for and the circle of the rating."""
    if len(corners) < 3:
        return ""
    frame = _Frame(-radius * WIDTH / HEIGHT, radius * WIDTH / HEIGHT, -radius, radius)
    cx, cy = frame.at((0.0, 0.0))
    said = f"{title}: delivered; dots asked for; circle {radius / 1000:g} kVA, P to the right"
    dots = [f'<circle cx="{x}" cy="{y}" r="2" fill="{SET}"/>' for x, y in map(frame.at, targets)]
    return _svg(
        said,
        frame.zero(),
        f'<line x1="{cx}" y1="{EDGE}" x2="{cx}" y2="{HEIGHT - EDGE}" stroke="{GRID}"/>',
        f'<circle cx="{cx}" cy="{cy}" r="{HEIGHT // 2 - EDGE}" fill="none" stroke="{GRID}"/>',
        frame.path([*corners, corners[0]], LINE),
        *dots,
    )


def caption(svg: str) -> str:
    """Return a plot's title, to stand below it where titles are not drawn."""
    found = _TITLE.search(svg)
    return html.unescape(found[1]) if found else ""


class _Frame:
    """Places values on whole pixels."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float) -> None:
        self._x0, self._y0 = x0, y0
        self._x_factor = (WIDTH - 2 * EDGE) / ((x1 - x0) or 1.0)
        self._y_factor = (HEIGHT - 2 * EDGE) / ((y1 - y0) or 1.0)

    def at(self, point: Point) -> tuple[int, int]:
        x = EDGE + (point[0] - self._x0) * self._x_factor
        y = HEIGHT - EDGE - (point[1] - self._y0) * self._y_factor
        return round(x), round(y)

    def zero(self) -> str:
        """The line of zero, where it is inside."""
        _x, y = self.at((self._x0, 0.0))
        if not EDGE <= y <= HEIGHT - EDGE:
            return ""
        return f'<line x1="{EDGE}" y1="{y}" x2="{WIDTH - EDGE}" y2="{y}" stroke="{GRID}"/>'

    def path(self, points: Sequence[Point], colour: str, *, dashed: bool = False) -> str:
        if not points:
            return ""
        places = " ".join(f"{x},{y}" for x, y in map(self.at, points))
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        return f'<polyline points="{places}" fill="none" stroke="{colour}"{dash}/>'


def _svg(title: str, *parts: str) -> str:
    body = "".join(p for p in parts if p)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{title}</title>{body}</svg>'
    )
