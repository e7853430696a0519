"""Couples a soft open point to its feeders: powers go in, voltages come back, at a period."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from firmware_sim.grid.flow import Flow, Grid
from firmware_sim.grid.profile import Profile
from firmware_sim.plant.sop import Sop

PERIOD_US = 1_000_000
# Below the threshold at which a terminal trips within 0.2 s.
COLLAPSED_PU = 0.4


class Coupling:
    """Solves the network every period of simulated time and gives each terminal its voltage."""

    def __init__(
        self, grid: Grid, sop: Sop, profile: Profile, *, period_us: int = PERIOD_US
    ) -> None:
        if sop.n != len(grid.network.terminals):
            raise ValueError(
                f"{grid.network.name} has {len(grid.network.terminals)} terminals, "
                f"the device has {sop.n}"
            )
        self.grid = grid
        self.sop = sop
        self.profile = profile
        self.period_us = period_us
        self.loss_wh = 0.0
        self.flow: Flow | None = None
        self._next_us = sop.t_us

    def switch(self, branch: str, *, closed: bool) -> None:
        """Open or close a branch of the feeders."""
        self.grid.switch(branch, closed=closed)
        self._next_us = self.sop.t_us

    def truth(self, day_s: float) -> Mapping[str, Any]:
        """Losses and voltages of the feeders now, and as they would be without the SOP."""
        load_ratio, sun_ratio = self.profile.at(day_s)
        idle = [0.0] * self.sop.n
        found = {}
        for name, p_w, q_var in (
            ("with", [c.p_w for c in self.sop.converters], [c.q_var for c in self.sop.converters]),
            ("without", idle, idle),
        ):
            flow = self.grid.solve(p_w, q_var, load_ratio=load_ratio, sun_ratio=sun_ratio)
            node, v_pu = flow.lowest
            found[name] = {
                "collapsed": flow.collapsed,
                "loss_w": round(flow.loss_w),
                "lowest_node": node,
                "lowest_v_pu": round(v_pu, 5),
                "terminal_v_pu": [round(v, 5) for v in flow.terminal_v_pu],
            }
        return {"load_ratio": load_ratio, "loss_wh": self.loss_wh, **found}

    def step(self, day_s: float) -> None:
        """Solve when the period has passed; ``day_s`` is the second of the simulated day."""
        sop = self.sop
        if sop.t_us < self._next_us:
            return
        self._next_us = sop.t_us + self.period_us
        load_ratio, sun_ratio = self.profile.at(day_s)
        flow = self._solve(load_ratio, sun_ratio)
        self.flow = flow
        if flow.collapsed:
            self._collapse(load_ratio, sun_ratio)
            return
        self.loss_wh += flow.loss_w * self.period_us / 3.6e9
        nodes = self.grid.network.terminals
        for converter, node, v_pu in zip(sop.converters, nodes, flow.terminal_v_pu, strict=True):
            if converter.feeder_held:
                continue  # a tester has given this feeder another voltage
            converter.feeder_v_v = v_pu * converter.rated.v_ac_nominal_v
            if v_pu == 0.0:
                load = self.grid.island_load(node, load_ratio, sun_ratio)
                converter.island_load_w, converter.island_load_var = load
            elif converter.energised:
                converter.v_ac_v = converter.feeder_v_v

    def _solve(self, load_ratio: float, sun_ratio: float, *, without: int | None = None) -> Flow:
        """The flow at the powers of now; ``without`` leaves one terminal's power out."""
        share = [0.0 if k == without else 1.0 for k in range(self.sop.n)]
        return self.grid.solve(
            [c.p_w * s for c, s in zip(self.sop.converters, share, strict=True)],
            [c.q_var * s for c, s in zip(self.sop.converters, share, strict=True)],
            load_ratio=load_ratio,
            sun_ratio=sun_ratio,
        )

    def _collapse(self, load_ratio: float, sun_ratio: float) -> None:
        """No operating point: the terminals that ask too much lose their voltage and will trip.

        Those are the ones without whose power there is a solution; where no single one is to
        blame, all that draw power. The others keep the voltage they had.
        """
        sop = self.sop
        drawing = [k for k, c in enumerate(sop.converters) if c.p_w < 0.0]
        weak = [
            k for k in drawing if not self._solve(load_ratio, sun_ratio, without=k).collapsed
        ] or drawing
        for index in weak:
            converter = sop.converters[index]
            if not converter.feeder_held:
                converter.feeder_v_v = COLLAPSED_PU * converter.rated.v_ac_nominal_v
        sop.note("feeders collapsed at " + (" ".join(f"T{k + 1}" for k in weak) or "their loads"))
