"""A table of true values over simulated time; the same seed gives the same bytes."""

from __future__ import annotations

import logging
from typing import TextIO

from firmware_sim.plant.sop import Sop

log = logging.getLogger(__name__)


class Trace:
    """Writes one CSV row a period of simulated time; a full disk ends it and not the device."""

    def __init__(self, out: TextIO, sop: Sop, *, period_us: int = 1_000_000) -> None:
        self._out = out
        self._sop = sop
        self._period_us = period_us
        self._next_us: float = 0
        names = [
            f"t{k}_{what}"
            for k in range(1, sop.n + 1)
            for what in ("state", "p_w", "q_var", "p_set_w", "inj_wh", "abs_wh")
        ]
        out.write(",".join(("t_s", "state", "master", "v_dc_v", "loss_w", *names)) + "\n")

    def sample(self, offset_us: int = 0) -> None:
        """Write a row when its time has come; time is counted from the epoch of the bench."""
        sop = self._sop
        t_us = sop.t_us - offset_us
        if t_us < self._next_us:
            return
        self._next_us = (t_us // self._period_us + 1) * self._period_us
        cells = [
            f"{t_us / 1e6:.3f}",
            str(int(sop.station_state())),
            str(sop.master_index + 1),
            f"{sop.v_dc_measured_v:.2f}",
            f"{sop.loss_w:.1f}",
        ]
        for c in sop.converters:
            cells += [
                str(int(c.state)),
                f"{c.p_w:.1f}",
                f"{c.q_var:.1f}",
                f"{c.p_set_w:.0f}",
                f"{c.injected_wh:.3f}",
                f"{c.absorbed_wh:.3f}",
            ]
        try:
            self._out.write(",".join(cells) + "\n")
        except OSError as error:
            log.warning("no trace from %.0f s on: %s", t_us / 1e6, error)
            self._next_us = float("inf")
