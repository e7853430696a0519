"""The last hour of what the page plots, sampled from the views: a ring, never more.

It is for eyes alone. What must be kept stands in the ledger.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gateway.hmi.state import SiteView, TerminalView
from gateway.hmi.svg import Point

SAMPLES_MAX = 1800  # an hour at one in two seconds: more than the plot has columns


class Trend:
    """DC voltage and every terminal's set and measured power over the last samples.

    Where the station is silent its last values are no samples: the line breaks.
    """

    def __init__(self, *, samples_max: int = SAMPLES_MAX) -> None:
        """Make an empty trend of at most that many samples."""
        self._views: deque[tuple[int, int | None, tuple[TerminalView, ...]]] = deque(
            maxlen=samples_max
        )

    def __len__(self) -> int:
        """Return how many samples there are."""
        return len(self._views)

    def add(self, view: SiteView) -> None:
        """Keep one view's plotted values; a view of an instant that is already there is not.

        What is later than the view was sampled by a clock that was set back since, and goes.
        """
        while self._views and self._views[-1][0] > view.utc_us:
            self._views.pop()
        if not self._views or view.utc_us > self._views[-1][0]:
            dc, terminals = (None, ()) if view.station_stale else (view.v_dc_dv, view.terminals)
            self._views.append((view.utc_us, dc, terminals))

    def dc_voltage(self) -> list[Point]:
        """Return the DC voltage in V."""
        return [(at, None if v is None else v / 10) for at, v, _ in self._views]

    def power(self, terminal: str) -> list[Point]:
        """Return the converter's power of a terminal in kW."""
        return self._of(terminal, lambda t: t.p_w)

    def power_set(self, terminal: str) -> list[Point]:
        """Return the set power of a terminal in kW."""
        return self._of(terminal, lambda t: t.set_p_w)

    def _of(self, terminal: str, read: Callable[[TerminalView], int | None]) -> list[Point]:
        points: list[Point] = []
        for at, _, terminals in self._views:
            found = next((t for t in terminals if t.id == terminal), None)
            watts = read(found) if found else None
            points.append((at, None if watts is None else watts / 1000))
        return points
