"""Terminals of a soft open point and the limits the site sets them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Reactive:
    """Reactive power a terminal shall give; positive injects and lifts the feeder's voltage.

    ``curve`` lists points (voltage in 0.1 V, var) by rising voltage; without it ``q_var`` holds.
    """

    q_var: int = 0
    curve: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        voltages = [v_dv for v_dv, _ in self.curve]
        assert all(a < b for a, b in pairwise(voltages)), "the voltages of a curve rise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """One AC connection of the SOP to a feeder.

    Powers are positive when the converter injects into its feeder. ``p_w_min`` is the
    guard's lower limit (negative), ``p_w_max`` its upper one; both narrow ``s_va``.
    """

    id: str
    index: int  # place in the station's register map
    domain: str  # the region behind the terminal, as market documents name it
    meter: str  # device name of the meter that settles
    s_va: int
    p_w_min: int
    p_w_max: int
    ramp_w_per_s: int
    v_dv_min: int  # feeder voltage, 0.1 V
    v_dv_max: int
    reactive: Reactive | None = None

    def __post_init__(self) -> None:
        assert self.p_w_min <= 0 <= self.p_w_max
        assert self.s_va > 0
        assert self.ramp_w_per_s > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """Converter loss ``L = S (a + b i + c i²)``, ``i = |S| / S_n``; parts per million of S_n."""

    a_ppm: int
    b_ppm: int
    c_ppm: int

    def loss_w(self, *, p_w: int, s_va: int) -> int:
        """Loss of one converter in W at active power ``p_w``, rounded up."""
        p = abs(p_w)
        scaled = self.a_ppm * s_va * s_va + self.b_ppm * p * s_va + self.c_ppm * p * p  # W·VA·ppm
        return -(-scaled // (1_000_000 * s_va))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sop:
    """A soft open point: its terminals, its one Vdc-Q master, its DC limits and losses."""

    id: str
    master: str
    terminals: tuple[Terminal, ...]
    throughput_w: int  # most power that may cross the DC bus
    losses: LossCurve
    v_dc_dv_min: int
    v_dc_dv_max: int
    _by_id: dict[str, Terminal] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {t.id: t for t in self.terminals})
        assert len(self._by_id) == len(self.terminals) >= 2
        assert self.master in self._by_id

    def terminal(self, terminal_id: str) -> Terminal:
        """Return a terminal by id; KeyError when there is none."""
        return self._by_id[terminal_id]

    def limited(self, terminal_id: str, *, p_w_min: int, p_w_max: int) -> Sop:
        """Return the same with other limits of power at one terminal."""
        terminals = tuple(
            replace(t, p_w_min=p_w_min, p_w_max=p_w_max) if t.id == terminal_id else t
            for t in self.terminals
        )
        return replace(self, terminals=terminals)

    @property
    def slaves(self) -> tuple[Terminal, ...]:
        """Every terminal but the master, in map order."""
        return tuple(t for t in self.terminals if t.id != self.master)
