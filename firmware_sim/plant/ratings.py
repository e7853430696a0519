"""What a simulated device is built of: ratings and the loss curve. Values only, no behaviour."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """Converter losses as S·(a + b·i + c·i²) with the current i in per unit."""

    a_pu: float = 0.004
    b_pu: float = 0.006
    c_pu: float = 0.006

    def at_w(self, s_va: float, i_pu: float) -> float:
        """Losses of one energised converter in W."""
        return s_va * (self.a_pu + i_pu * (self.b_pu + self.c_pu * i_pu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """One terminal: AC rating, voltages and the capacitance it adds to the DC link."""

    s_va: int
    v_ac_nominal_v: float
    c_dc_f: float
    i_max_pu: float = 1.0
    tau_p_s: float = 0.020
    heatsink_tau_s: float = 90.0
    heatsink_rise_celsius: float = 45.0

    @property
    def i_nominal_a(self) -> float:
        """Rated line current in A."""
        return self.s_va / (math.sqrt(3.0) * self.v_ac_nominal_v)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSpec:
    """A soft open point: its terminals around one DC link."""

    kind: str
    terminals: tuple[Ratings, ...]
    v_dc_nominal_v: float
    losses: LossCurve = field(default_factory=LossCurve)
    tau_master_s: float = 0.003

    def __post_init__(self) -> None:
        if len(self.terminals) < 2:
            raise ValueError(f"{self.kind}: a soft open point has at least two terminals")

    @property
    def c_dc_f(self) -> float:
        """Capacitance of the whole DC link."""
        return sum(t.c_dc_f for t in self.terminals)


def _alike(kind: str, n: int, v_dc: float, *, s: int, v_ac: float, c: float) -> DeviceSpec:
    terminal = Ratings(s_va=s, v_ac_nominal_v=v_ac, c_dc_f=c)
    return DeviceSpec(kind=kind, terminals=(terminal,) * n, v_dc_nominal_v=v_dc)


SPECS: dict[str, DeviceSpec] = {
    spec.kind: spec
    for spec in (
        _alike("lv4x250", 4, 800.0, s=250_000, v_ac=400.0, c=0.015),
        # 30 ms of inertia at 3 MVA and 20 kV: C = 2·H·S/V².
        _alike("mv4x3000", 4, 20_000.0, s=3_000_000, v_ac=10_000.0, c=450e-6),
        _alike("lv2x250", 2, 800.0, s=250_000, v_ac=400.0, c=0.015),
        _alike("lv3x250", 3, 800.0, s=250_000, v_ac=400.0, c=0.015),
    )
}
