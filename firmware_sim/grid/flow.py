"""Power flow of a network with power-grid-model; terminals inject, voltages come back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from power_grid_model import CalculationMethod, PowerGridModel, initialize_array
from power_grid_model.errors import IterationDiverge, SparseMatrixError

from firmware_sim.grid.networks import Network

# Stiff enough that the source's own drop stays below 1e-12.
SOURCE_VA = 1e20
TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What one power flow found."""

    loss_w: float
    node_v_pu: dict[str, float]
    terminal_v_pu: tuple[float, ...]
    # The network has no operating point at these powers: its voltages have collapsed.
    collapsed: bool = False

    @property
    def lowest(self) -> tuple[str, float]:
        """Node with the lowest voltage, per unit."""
        live = {name: v_pu for name, v_pu in self.node_v_pu.items() if v_pu > 0.0}
        if not live:
            return "", 0.0
        node = min(live, key=lambda n: live[n])
        return node, live[node]


class Grid:
    """One network, solved again and again with other powers."""

    def __init__(self, network: Network) -> None:
        self.network = network
        nodes = network.nodes
        self._ids = {name: k for k, name in enumerate(nodes)}
        self._loads = len(network.loads)
        self._model = PowerGridModel(self._input(nodes))
        first = self._first_load
        count = self._loads + len(network.terminals) + len(network.sun)
        self._update = initialize_array("update", "sym_load", count)
        self._update["id"] = np.arange(first, first + count)
        self._base_p = np.array([load.p_kw * 1000.0 for load in network.loads])
        self._base_q = np.array([load.q_kvar * 1000.0 for load in network.loads])
        self._sun_p = np.array([plant.p_kw * 1000.0 for plant in network.sun])
        self._open: set[int] = set()
        self.dead: frozenset[str] = frozenset()

    def _input(self, nodes: Sequence[str]) -> dict[str, np.ndarray]:
        network, ids = self.network, self._ids
        node = initialize_array("input", "node", len(nodes))
        node["id"] = np.arange(len(nodes))
        node["u_rated"] = network.v_nominal_v
        line = initialize_array("input", "line", len(network.branches))
        at = len(nodes)
        line["id"] = np.arange(at, at + len(network.branches))
        line["from_node"] = [ids[b.start] for b in network.branches]
        line["to_node"] = [ids[b.end] for b in network.branches]
        line["from_status"] = line["to_status"] = 1
        line["r1"] = [b.r_ohm for b in network.branches]
        line["x1"] = [b.x_ohm for b in network.branches]
        line["c1"] = line["tan1"] = 0.0
        line["i_n"] = 1e6
        at += len(network.branches)
        source = initialize_array("input", "source", len(network.sources))
        source["id"] = np.arange(at, at + len(network.sources))
        source["node"] = [ids[name] for name in network.sources]
        source["status"] = 1
        source["u_ref"] = 1.0
        source["sk"] = SOURCE_VA
        at += len(network.sources)
        self._first_load = at
        places = [load.node for load in network.loads] + list(network.terminals)
        places += [plant.node for plant in network.sun]
        load = initialize_array("input", "sym_load", len(places))
        load["id"] = np.arange(at, at + len(places))
        load["node"] = [ids[name] for name in places]
        load["status"] = 1
        load["type"] = 0
        load["p_specified"] = load["q_specified"] = 0.0
        return {"node": node, "line": line, "source": source, "sym_load": load}

    def switch(self, branch: str, *, closed: bool) -> None:
        """Open or close a branch by its name, ``start-end``; what is cut off goes dead."""
        names = [f"{b.start}-{b.end}" for b in self.network.branches]
        if branch not in names:
            raise ValueError(f"no branch {branch!r} in {self.network.name}")
        index = names.index(branch)
        (self._open.discard if closed else self._open.add)(index)
        update = initialize_array("update", "line", 1)
        update["id"] = len(self.network.nodes) + index
        update["from_status"] = update["to_status"] = int(closed)
        self._model.update(update_data={"line": update})
        self.dead = self._cut_off()

    def close_all(self) -> None:
        """Close every branch again."""
        for index in sorted(self._open):
            branch = self.network.branches[index]
            self.switch(f"{branch.start}-{branch.end}", closed=True)

    def _neighbours(self) -> dict[str, set[str]]:
        near: dict[str, set[str]] = {name: set() for name in self.network.nodes}
        for index, branch in enumerate(self.network.branches):
            if index not in self._open:
                near[branch.start].add(branch.end)
                near[branch.end].add(branch.start)
        return near

    def _reach(self, start: Iterable[str]) -> set[str]:
        near, reached, waiting = self._neighbours(), set(start), list(start)
        while waiting:
            fresh = near[waiting.pop()] - reached
            reached |= fresh
            waiting += fresh
        return reached

    def _cut_off(self) -> frozenset[str]:
        return frozenset(self.network.nodes) - self._reach(self.network.sources)

    def island_load(self, node: str, load_ratio: float, sun_ratio: float) -> tuple[float, float]:
        """W and var of the dead section around a node: what a grid-forming terminal must carry."""
        section = self._reach([node])
        p_w = sum(x.p_kw for x in self.network.loads if x.node in section) * 1000 * load_ratio
        q_var = sum(x.q_kvar for x in self.network.loads if x.node in section) * 1000 * load_ratio
        p_w -= sum(x.p_kw for x in self.network.sun if x.node in section) * 1000 * sun_ratio
        return p_w, q_var

    def solve(
        self,
        p_w: Sequence[float],
        q_var: Sequence[float] | None = None,
        *,
        load_ratio: float = 1.0,
        sun_ratio: float = 0.0,
    ) -> Flow:
        """Solve with the terminals' injections, positive into the network.

        Where there is no solution the flow says so; an overload is no end of the simulation.
        """
        n, loads = len(self.network.terminals), self._loads
        p, q = self._update["p_specified"], self._update["q_specified"]
        p[:loads] = self._base_p * load_ratio
        q[:loads] = self._base_q * load_ratio
        p[loads : loads + n] = [-value for value in p_w]
        q[loads : loads + n] = 0.0 if q_var is None else [-value for value in q_var]
        p[loads + n :] = -self._sun_p * sun_ratio
        q[loads + n :] = 0.0
        self._model.update(update_data={"sym_load": self._update})
        try:
            found = self._model.calculate_power_flow(
                error_tolerance=TOLERANCE,
                calculation_method=CalculationMethod.newton_raphson,
                output_component_types={"node", "line"},
            )
        except (IterationDiverge, SparseMatrixError):
            return Flow(
                loss_w=0.0, node_v_pu=dict.fromkeys(self._ids, 0.0),
                terminal_v_pu=(0.0,) * n, collapsed=True,
            )  # fmt: skip
        volts = found["node"]["u_pu"]
        lines = found["line"]
        voltages = {
            name: 0.0 if name in self.dead else float(volts[k]) for name, k in self._ids.items()
        }
        return Flow(
            loss_w=float(np.nansum(lines["p_from"]) + np.nansum(lines["p_to"])),
            node_v_pu=voltages,
            terminal_v_pu=tuple(voltages[name] for name in self.network.terminals),
        )
