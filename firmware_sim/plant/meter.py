"""An energy meter: what it measures through its current transformers and counts for ever.

The meter looks from the feeder: power is positive on *import* (the converter absorbs) and it counts
*export* while the converter injects. ``source`` is anything with powers at its terminals, positive
towards the feeder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

PHASE_RAD = 2.0 * math.pi / 3.0


class Source(Protocol):
    """What a meter is connected to; power positive towards the feeder."""

    p_w: float
    q_var: float
    v_ac_v: float
    f_hz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Which conductor's current reaches which input, and which transformers are turned round."""

    order_index: tuple[int, int, int] = (0, 1, 2)
    polarity_level: tuple[int, int, int] = (1, 1, 1)

    @property
    def right(self) -> bool:
        """Whether it is wired as it should be."""
        return self.order_index == (0, 1, 2) and self.polarity_level == (1, 1, 1)


def arrangements() -> tuple[Wiring, ...]:
    """All 48 ways to connect three current transformers."""
    return tuple(
        Wiring(order_index=(i, j, k), polarity_level=(a, b, c))
        for i, j, k in itertools.permutations((0, 1, 2))
        for a, b, c in itertools.product((1, -1), repeat=3)
    )


class Meter:
    """Counters and readings of one meter."""

    __slots__ = (
        "_even_export_j",
        "_even_import_j",
        "_export_j",
        "_import_j",
        "_phase_export_j",
        "_phase_import_j",
        "export_start_wh",
        "gain_ratio",
        "import_start_wh",
        "serial_id",
        "source",
        "wiring",
    )

    def __init__(
        self,
        source: Source,
        *,
        serial_id: int,
        start_import_wh: float = 0.0,
        start_export_wh: float = 0.0,
        gain_ratio: float = 1.0,
        wiring: Wiring | None = None,
    ) -> None:
        self.source = source
        self.serial_id = serial_id
        self.gain_ratio = gain_ratio
        self.wiring = wiring or Wiring()
        self.import_start_wh = start_import_wh
        self.export_start_wh = start_export_wh
        self._import_j = self._export_j = 0.0
        # Counted while it was wired as it should be: a third of it belongs to each phase.
        self._even_import_j = self._even_export_j = 0.0
        self._phase_import_j = [0.0, 0.0, 0.0]
        self._phase_export_j = [0.0, 0.0, 0.0]

    # ----------------------------------------------------------------- counters

    def count(self, dt_s: float) -> None:
        """Count a stretch of time during which the present power is held."""
        if self.wiring.right:
            energy = -self.source.p_w * self.gain_ratio * dt_s
            if energy >= 0.0:
                self._import_j += energy
                self._even_import_j += energy
            else:
                self._export_j -= energy
                self._even_export_j -= energy
            return
        phases = [p * dt_s for p in self._phase_powers()]
        total = sum(phases)
        if total >= 0.0:
            self._import_j += total
        else:
            self._export_j -= total
        for index, energy in enumerate(phases):
            if energy >= 0.0:
                self._phase_import_j[index] += energy
            else:
                self._phase_export_j[index] -= energy

    def import_wh(self, ahead_s: float = 0.0) -> float:
        """Imported energy, ``ahead_s`` after the last counted stretch."""
        ahead_j = max(0.0, self.p_w()) * ahead_s if ahead_s else 0.0
        return self.import_start_wh + (self._import_j + ahead_j) / 3600.0

    def export_wh(self, ahead_s: float = 0.0) -> float:
        """Exported energy, ``ahead_s`` after the last counted stretch."""
        ahead_j = max(0.0, -self.p_w()) * ahead_s if ahead_s else 0.0
        return self.export_start_wh + (self._export_j + ahead_j) / 3600.0

    def reset(self) -> None:
        """Lose both counters, as after a lost memory."""
        self.set_counters(0.0, 0.0)

    def set_counters(self, import_wh: float, export_wh: float) -> None:
        """Put both counters to a value, to come near a rollover or to stand for another meter."""
        self.import_start_wh, self.export_start_wh = import_wh, export_wh
        self._import_j = self._export_j = 0.0
        # Counted while it was wired as it should be: a third of it belongs to each phase.
        self._even_import_j = self._even_export_j = 0.0
        self._phase_import_j = [0.0, 0.0, 0.0]
        self._phase_export_j = [0.0, 0.0, 0.0]

    def exchange(self, serial_id: int, import_wh: float, export_wh: float) -> None:
        """Another meter hangs on the wall."""
        self.serial_id = serial_id
        self.set_counters(import_wh, export_wh)

    # ------------------------------------------------------------------ readings

    def p_w(self) -> float:
        """Active power: positive on import."""
        if self.wiring.right:
            return -self.source.p_w * self.gain_ratio
        return sum(self._phase_powers())

    def _phase_powers(self, *, reactive: bool = False) -> list[float]:
        """Power each input believes to see: its voltage times the current it is given."""
        p_w = -self.source.p_w * self.gain_ratio / 3.0
        q_var = -self.source.q_var * self.gain_ratio / 3.0
        s_va, phi = math.hypot(p_w, q_var), math.atan2(q_var, p_w)
        function = math.sin if reactive else math.cos
        return [
            sign * s_va * function(phi + PHASE_RAD * (conductor - own))
            for own, (conductor, sign) in enumerate(
                zip(self.wiring.order_index, self.wiring.polarity_level, strict=True)
            )
        ]

    def reading(self, ahead_s: float = 0.0) -> Mapping[str, float]:
        """Every quantity a meter of any make may print, in base units."""
        source = self.source
        v_ln = source.v_ac_v / math.sqrt(3.0)
        p, q = self._phase_powers(), self._phase_powers(reactive=True)
        s_phase = math.hypot(source.p_w, source.q_var) * self.gain_ratio / 3.0
        amps = s_phase / v_ln if v_ln > 1.0 else 0.0
        total_p, total_q = sum(p), sum(q)
        total_s = math.hypot(total_p, total_q)
        import_wh, export_wh = self.import_wh(ahead_s), self.export_wh(ahead_s)
        values = {
            "u_ln": v_ln, "u_ll": source.v_ac_v, "i": amps, "p": total_p, "q": total_q,
            "s": total_s, "pf": total_p / total_s if total_s > 1.0 else 1.0, "f": source.f_hz,
            "e_imp": import_wh, "e_exp": export_wh, "e_sum": import_wh + export_wh,
            "e_net": import_wh - export_wh, "zero": 0.0, "serial": float(self.serial_id),
        }  # fmt: skip
        for k in range(3):
            own = math.hypot(p[k], q[k])
            values |= {
                f"u{k + 1}": v_ln, f"u{k + 1}{(k + 1) % 3 + 1}": source.v_ac_v,
                f"i{k + 1}": amps, f"p{k + 1}": p[k], f"q{k + 1}": q[k], f"s{k + 1}": own,
                f"pf{k + 1}": p[k] / own if own > 1.0 else 1.0,
                f"e_imp{k + 1}": self._phase_wh(k, import_wh - self.import_wh(), exports=False),
                f"e_exp{k + 1}": self._phase_wh(k, export_wh - self.export_wh(), exports=True),
            }  # fmt: skip
        return values

    def _phase_wh(self, index: int, ahead_wh: float, *, exports: bool) -> float:
        """One phase's counter; another wiring changes how it goes on, never what it has counted."""
        start_wh, even_j, counted_j = (
            (self.export_start_wh, self._even_export_j, self._phase_export_j)
            if exports
            else (self.import_start_wh, self._even_import_j, self._phase_import_j)
        )
        third_wh = start_wh + even_j / 3600.0 + (ahead_wh if self.wiring.right else 0.0)
        return third_wh / 3.0 + counted_j[index] / 3600.0
