"""Networks as tables: the 33-bus feeder, four copies of it, and the CIGRE low-voltage feeders.

Powers of loads are kW and kvar as published; nodes carry their published names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A line between two nodes, or a transformer given by its series impedance."""

    start: str
    end: str
    r_ohm: float
    x_ohm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Demand at a node before the profile scales it."""

    node: str
    p_kw: float
    q_kvar: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network with its infeeds and the nodes where the terminals of a SOP are."""

    name: str
    v_nominal_v: float
    sources: tuple[str, ...]
    branches: tuple[Branch, ...]
    loads: tuple[Load, ...]
    terminals: tuple[str, ...]
    sun: tuple[Load, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes in the order of first mention."""
        seen = dict.fromkeys(self.sources)
        for branch in self.branches:
            seen |= dict.fromkeys((branch.start, branch.end))
        return tuple(seen)


# from-to R X (ohm), then P kW and Q kvar at the "to" node.
_IEEE33 = """
1-2 .0922 .0470 100 60 | 2-3 .4930 .2511 90 40 | 3-4 .3660 .1864 120 80 | 4-5 .3811 .1941 60 30
5-6 .8190 .7070 60 20 | 6-7 .1872 .6188 200 100 | 7-8 .7114 .2351 200 100 | 8-9 1.0300 .7400 60 20
9-10 1.0440 .7400 60 20 | 10-11 .1966 .0650 45 30 | 11-12 .3744 .1238 60 35
12-13 1.4680 1.1550 60 35 | 13-14 .5416 .7129 120 80 | 14-15 .5910 .5260 60 10
15-16 .7463 .5450 60 20 | 16-17 1.2890 1.7210 60 20 | 17-18 .7320 .5740 90 40
2-19 .1640 .1565 90 40 | 19-20 1.5042 1.3554 90 40 | 20-21 .4095 .4784 90 40
21-22 .7089 .9373 90 40 | 3-23 .4512 .3083 90 50 | 23-24 .8980 .7091 420 200
24-25 .8960 .7011 420 200 | 6-26 .2030 .1034 60 25 | 26-27 .2842 .1447 60 25
27-28 1.0590 .9337 60 20 | 28-29 .8042 .7006 120 70 | 29-30 .5075 .2585 200 600
30-31 .9744 .9630 150 70 | 31-32 .3105 .3619 210 100 | 32-33 .3410 .5302 60 40
"""
IEEE33_V = 12_660.0


def _ieee33(prefix: str = "", scale: float = 1.0) -> tuple[tuple[Branch, ...], tuple[Load, ...]]:
    branches, loads = [], []
    for row in _IEEE33.replace("\n", "|").split("|"):
        if not row.strip():
            continue
        ends, r, x, p, q = row.split()
        start, end = ends.split("-")
        branches.append(
            Branch(start=prefix + start, end=prefix + end, r_ohm=float(r), x_ohm=float(x))
        )
        loads.append(Load(node=prefix + end, p_kw=scale * float(p), q_kvar=scale * float(q)))
    return tuple(branches), tuple(loads)


def ieee33_4t() -> Network:
    """The 33-bus feeder with a four-terminal SOP at the ends of its laterals."""
    branches, loads = _ieee33()
    return Network(
        name="ieee33-4t", v_nominal_v=IEEE33_V, sources=("1",), branches=branches, loads=loads,
        terminals=("18", "22", "25", "33"),
    )  # fmt: skip


def four_feeders() -> Network:
    """Four feeders of their own with unlike loads and sun: the regions are really apart."""
    branches: tuple[Branch, ...] = ()
    loads: tuple[Load, ...] = ()
    sun = []
    letters = "abcd"
    for letter, scale, pv_kw in zip(
        letters, (1.2, 0.9, 0.7, 0.5), (0, 300, 800, 1200), strict=True
    ):
        lines, demand = _ieee33(f"{letter}.", scale)
        branches += lines
        loads += demand
        if pv_kw:
            sun.append(Load(node=f"{letter}.30", p_kw=float(pv_kw), q_kvar=0.0))
    return Network(
        name="four-feeders", v_nominal_v=IEEE33_V, sources=tuple(f"{x}.1" for x in letters),
        branches=branches, loads=loads, terminals=tuple(f"{x}.18" for x in letters),
        sun=tuple(sun),
    )  # fmt: skip


# Ohm per km of the CIGRE low-voltage line types.
_TYPES = {
    "UG1": (0.162, 0.0832), "UG2": (0.2647, 0.0823), "UG3": (0.822, 0.0847),
    "OH1": (0.4917, 0.2847), "OH2": (1.3207, 0.321), "OH3": (2.0167, 0.3343),
}  # fmt: skip
_CIGRE_LINES = """
R1-R2 UG1 35, R2-R3 UG1 35, R3-R4 UG1 35, R4-R5 UG1 35, R5-R6 UG1 35, R6-R7 UG1 35, R7-R8 UG1 35,
R8-R9 UG1 35, R9-R10 UG1 35, R3-R11 UG3 30, R4-R12 UG3 35, R12-R13 UG3 35, R13-R14 UG3 35,
R14-R15 UG3 30, R6-R16 UG3 30, R9-R17 UG3 30, R10-R18 UG3 30, I1-I2 UG2 200, C1-C2 OH1 30,
C2-C3 OH1 30, C3-C4 OH1 30, C4-C5 OH1 30, C5-C6 OH1 30, C6-C7 OH1 30, C7-C8 OH1 30, C8-C9 OH1 30,
C3-C10 OH2 30, C10-C11 OH2 30, C11-C12 OH3 30, C11-C13 OH3 30, C10-C14 OH3 30, C5-C15 OH2 30,
C15-C16 OH2 30, C15-C17 OH3 30, C16-C18 OH3 30, C8-C19 OH3 30, C9-C20 OH3 30
"""
# Transformers 20/0.4 kV: MVA, short-circuit voltage and its real part in percent.
_CIGRE_TRANSFORMERS = {
    "R": (0.5, 4.123106, 1.0),
    "I": (0.15, 4.126896, 1.003125),
    "C": (0.3, 4.115529, 0.99375),
}
# Apparent power in kVA by node; the power factor goes with the feeder.
_CIGRE_LOADS = {
    "R1": 200, "R11": 15, "R15": 52, "R16": 55, "R17": 35, "R18": 47, "I2": 100, "C1": 120,
    "C12": 20, "C13": 20, "C14": 25, "C17": 25, "C18": 8, "C19": 16, "C20": 8,
}  # fmt: skip
_CIGRE_FACTORS = {"R": 0.95, "I": 0.85, "C": 0.90}
CIGRE_V = 400.0


def cigre_lv() -> Network:
    """Residential, industrial and commercial feeder: a natural three-terminal LV SOP."""
    branches = []
    for feeder, (mva, percent, real) in _CIGRE_TRANSFORMERS.items():
        base_ohm = CIGRE_V**2 / (mva * 1e6)
        reactive = (percent**2 - real**2) ** 0.5
        branches.append(
            Branch(
                start=f"{feeder}0", end=f"{feeder}1", r_ohm=base_ohm * real / 100,
                x_ohm=base_ohm * reactive / 100,
            )
        )  # fmt: skip
    for row in _CIGRE_LINES.replace("\n", "").split(","):
        ends, kind, metres = row.split()
        start, end = ends.split("-")
        r, x = _TYPES[kind]
        km = float(metres) / 1000
        branches.append(Branch(start=start, end=end, r_ohm=r * km, x_ohm=x * km))
    loads = []
    for node, kva in _CIGRE_LOADS.items():
        factor = _CIGRE_FACTORS[node[0]]
        loads.append(Load(node=node, p_kw=kva * factor, q_kvar=kva * (1 - factor * factor) ** 0.5))
    return Network(
        name="cigre-lv", v_nominal_v=CIGRE_V, sources=("R0", "I0", "C0"),
        branches=tuple(branches), loads=tuple(loads), terminals=("R10", "I2", "C9"),
    )  # fmt: skip


NETWORKS = {"ieee33-4t": ieee33_4t, "four-feeders": four_feeders, "cigre-lv": cigre_lv}
