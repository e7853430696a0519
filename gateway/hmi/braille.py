"""Plots in the terminal: dots of Braille characters, two columns by four rows each, or plain ASCII.

One canvas serves the demo's table, step tests and the live view. It makes text of exactly the
asked width and height and knows nothing of colour, so that a pipe and a screen show the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from gateway.hmi.svg import (
    Point,
    nice_ticks,
    number,
    scale,
    signed,
    time_ticks,
    utc_text,
    value_range,
)

# bit of each dot in U+2800, by column and row
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
GUTTER = 8  # columns for the scale: sign, four digits, point, digit, tick


class Canvas:
    """A grid of dots; ``dot`` ignores what lies outside, so that callers need no clipping."""

    def __init__(self, *, width: int, height: int) -> None:
        """Make an empty canvas of that many characters."""
        self.width, self.height = width, height
        self._cells = [[0] * width for _ in range(height)]

    def dot(self, x: int, y: int) -> None:
        """Set the dot in column ``x`` (0 … 2·width−1) and row ``y`` from the top."""
        if 0 <= x < 2 * self.width and 0 <= y < 4 * self.height:
            self._cells[y // 4][x // 2] |= DOTS[x % 2][y % 4]

    def segment(self, x1: int, y1: int, x2: int, y2: int) -> None:
        """Set the dots of a straight line."""
        reach = max(abs(x2 - x1), abs(y2 - y1), 1)
        for k in range(reach + 1):
            self.dot(
                x1 + (2 * k * (x2 - x1) + reach) // (2 * reach),
                y1 + (2 * k * (y2 - y1) + reach) // (2 * reach),
            )

    def rows(self) -> list[str]:
        """Return the lines of text."""
        return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in self._cells]


def plot(
    measured: Sequence[Point],
    *,
    width: int,
    height: int,
    dotted: Sequence[Point] = (),
    unit: str = "",
    ascii_only: bool = False,
) -> str:
    """Return ``height`` lines of a plot and two more: the time axis and, above, the unit.

    ``measured`` is drawn as a line, ``dotted`` (the set value) as steps of single dots. Points are
    (UTC microseconds, value); None breaks a line.
    """
    every = [p for p in (*measured, *dotted) if p[1] is not None]
    if not every or width <= GUTTER + 2 or height < 2:
        return ""
    start, end = min(p[0] for p in every), max(p[0] for p in every)
    span = value_range((v for _, v in every if v is not None), margin=0.02)
    ticks = nice_ticks(*span, 4 if height < 10 else 6)
    columns = width - GUTTER
    draw = _ascii_rows if ascii_only else _braille_rows
    rows = draw(measured, dotted, (start, end), span, columns=columns, height=height)
    to_row = scale(span[1], span[0], 0, height - 1)
    digits = max((len(number(t, 2).partition(".")[2]) for t in ticks), default=0)
    labels = {round(to_row(t)): signed(t, digits) for t in ticks}
    bar, joint = ("|", "+") if ascii_only else ("│", "┤")
    lines = [f"{unit:>{GUTTER - 1}}".ljust(GUTTER - 1)]
    for index, row in enumerate(rows):
        label = labels.get(index, "")
        lines.append(f"{label:>{GUTTER - 1}}{joint if label else bar}{row}".rstrip())
    lines.append(" " * GUTTER + _time_axis(start, end, columns))
    text = "\n".join(lines)
    return text.replace("−", "-") if ascii_only else text


def _braille_rows(
    measured: Sequence[Point],
    dotted: Sequence[Point],
    window: tuple[float, float],
    span: tuple[float, float],
    *,
    columns: int,
    height: int,
) -> list[str]:
    canvas = Canvas(width=columns, height=height)
    x = scale(*window, 0, 2 * columns - 1)
    y = scale(span[1], span[0], 0, 4 * height - 1)
    previous: tuple[int, int] | None = None
    for at, value in measured:
        if value is None:
            previous = None
            continue
        here = (round(x(at)), round(y(value)))
        canvas.segment(*(previous or here), *here)
        previous = here
    for column, value in _held(dotted, window, 2 * columns):
        if column % 3 == 0:
            canvas.dot(column, round(y(value)))
    return canvas.rows()


def _ascii_rows(
    measured: Sequence[Point],
    dotted: Sequence[Point],
    window: tuple[float, float],
    span: tuple[float, float],
    *,
    columns: int,
    height: int,
) -> list[str]:
    grid = [[" "] * columns for _ in range(height)]
    x = scale(*window, 0, columns - 1)
    y = scale(span[1], span[0], 0, height - 1)
    for column, value in _held(dotted, window, columns):
        grid[round(y(value))][column] = "."
    for at, seen in measured:
        if seen is not None:
            grid[round(y(seen))][round(x(at))] = "*"
    return ["".join(row) for row in grid]


def _held(
    points: Sequence[Point], window: tuple[float, float], columns: int
) -> list[tuple[int, float]]:
    """Return the value that holds in each column of a step series."""
    x = scale(*window, 0, columns - 1)
    held: list[tuple[int, float]] = []
    for (at, value), (until, _) in pairwise([*points, (window[1], None)]):
        if value is not None:
            until_column = min(round(x(until)), columns - 1)  # a break may lie past the window
            held += [(c, value) for c in range(round(x(at)), until_column + 1)]
    return held


def _time_axis(start: float, end: float, columns: int) -> str:
    """Return UTC instants under the plot, each centred on its column, and the word UTC."""
    instants, pattern = time_ticks(start, end, max(columns // 14, 1))
    x = scale(start, end, 0, columns - 1)
    row = [" "] * columns
    for instant in instants:
        label = utc_text(instant, pattern)
        begin = min(max(round(x(instant)) - len(label) // 2, 0), columns - 4 - len(label))
        if begin >= 0 and not "".join(row[max(begin - 1, 0) : begin + len(label) + 1]).strip():
            row[begin : begin + len(label)] = label
    row[columns - 3 :] = "UTC"
    return "".join(row).rstrip()
