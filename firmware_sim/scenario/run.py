"""Runs a scenario: simulated time and a seed make it the same each time.

With ``station`` in the scenario the commands go to a real address and time is real; the feeders
stay simulated and see the power that the real station reports.
"""

from __future__ import annotations

import random  # noqa: TID251 (seeded instances only)
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from firmware_sim.bench import Options, SopDevice
from firmware_sim.faces.registers import Table
from firmware_sim.plant.converter import Mode
from firmware_sim.plant.dynamics import Dynamics
from firmware_sim.plant.firmware import Order
from firmware_sim.plant.setpoints import Ack, Staged, block_bytes, crc16, encode
from firmware_sim.scenario.model import (
    Action,
    Check,
    Expectation,
    Happening,
    Outcome,
    Sample,
    Scenario,
)
from firmware_sim.scenario.stations import (
    RealStation,
    SimulatedStation,
    Station,
    metered_wh,
    sample_registers,
    sample_truth,
)
from firmware_sim.timebase import SimClock, TimeBase

OWNER_ID = 0x5C3
SAMPLES_MAX = 2_000_000


class Pace(Protocol):
    """How time passes: at once for a simulation, for real with a real station."""

    def __call__(self, t_s: float, /) -> None:
        """Return when scenario time has reached ``t_s``."""


@dataclass(slots=True)
class _Course:
    """What a run collects."""

    samples: list[Sample] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)


class Run:
    """One run of one scenario."""

    def __init__(
        self, scenario: Scenario, *, seed: int | None = None, pace: Pace | None = None
    ) -> None:
        self.scenario = scenario
        self._pace = pace
        seed = scenario.seed if seed is None else seed
        self._draw = random.Random(seed)  # noqa: S311 (a simulation)
        self._t_us = 0
        base = TimeBase(epoch_ns=0, utc_epoch_us=round(scenario.day_start_s * 1e6), factor=1.0)
        self._device = SopDevice(
            scenario.spec,
            SimClock(base, lambda: self._t_us * 1000),
            Options(
                seed=seed,
                state=scenario.state,
                master_index=scenario.master_index,
                bias_ratio_max=scenario.bias_ratio,
                noise_ratio=scenario.noise_ratio,
            ),
        )
        self._device.step_us = scenario.step_us
        self._dynamics = Dynamics(self._device.sop) if scenario.dynamic else None
        self._device.dynamics = self._dynamics
        self._station: Station = SimulatedStation(self._device.sop, lambda: self._device.firmware)
        self._real = scenario.station_address is not None
        self._meters: dict[int, RealStation] = {}
        self._metered_start_wh: dict[int, float] = {}
        self._grid: _Feeders | None = None
        self._seq = self._beat = self._instruction = 0
        self._link = True
        self._ack = "NONE"
        self._ends: list[tuple[int, Callable[[], None]]] = []
        self._course = _Course()

    # --------------------------------------------------------------------- run

    def run(self) -> Outcome:
        """Run to the end and judge."""
        scenario = self.scenario
        if scenario.station_address is not None:
            host, port = scenario.station_address
            self._station = RealStation(host, port, scenario.station_unit_id)
        for index, (host, port) in scenario.meter_address.items():
            self._meters[index] = RealStation(host, port, 1)
        if scenario.grid is not None:
            self._grid = _Feeders(scenario)
            if not self._real:
                self._grid.attach(self._device)
        try:
            self._prepare()
            self._loop()
        finally:
            for remote in (self._station, *self._meters.values()):
                remote.close()
        samples = tuple(self._course.samples)
        return Outcome(
            scenario=scenario,
            samples=samples,
            checks=tuple(judge(e, samples) for e in scenario.expectations),
            events=tuple(
                sorted(self._course.events + self._device_events(), key=lambda e: (e.t_s, e.what))
            ),
        )

    def _device_events(self) -> list[Happening]:
        return [Happening(t_s=t * 1e-6, what=what) for t, what in self._device.sop.events]

    def _prepare(self) -> None:
        head = self._station.read(Table.INPUT, 1000, 28)
        self._seq = head[6]
        self._station.write(5, [self.scenario.watchdog_ds, self.scenario.failsafe_code])

    def _loop(self) -> None:
        scenario = self.scenario
        queue = [(round(a.at_s * 1e6), k, a) for k, a in enumerate(scenario.actions)]
        queue.sort(key=lambda entry: entry[:2])
        end_us, step_us = round(scenario.duration_s * 1e6), scenario.step_us
        beat_us, next_beat_us = round(scenario.heartbeat_s * 1e6), 0
        sample_us, next_sample_us = round(scenario.sample_s * 1e6), 0
        while True:
            now_us = self._t_us
            while queue and queue[0][0] <= now_us:
                at_us, order, action = queue.pop(0)
                self._act(action)
                if action.every_s is not None:
                    again_us = at_us + round(action.every_s * 1e6)
                    until_s = scenario.duration_s if action.until_s is None else action.until_s
                    if again_us < round(until_s * 1e6):
                        queue.append((again_us, order, action))
                        queue.sort(key=lambda entry: entry[:2])
            self._take_back(now_us)
            if beat_us and now_us >= next_beat_us:
                next_beat_us = now_us + beat_us
                self._heartbeat()
            if now_us >= next_sample_us:
                next_sample_us = now_us + sample_us
                self._sample()
            if now_us >= end_us:
                return
            self._t_us = min(now_us + step_us, end_us)
            self._pass_time()

    def _pass_time(self) -> None:
        if self._pace is not None:
            self._pace(self._t_us * 1e-6)
        if not self._real:
            self._device.advance()

    def _take_back(self, now_us: int) -> None:
        for at_us, undo in self._ends:
            if at_us <= now_us:
                undo()
        self._ends = [(at_us, undo) for at_us, undo in self._ends if at_us > now_us]

    # ----------------------------------------------------------------- actions

    def _note(self, what: str) -> None:
        self._course.events.append(Happening(t_s=self._t_us * 1e-6, what=what))

    def _act(self, action: Action) -> None:
        match action.kind:
            case "link":
                self._link = action.word == "restored"
                self._note(f"link {action.word}")
                if action.for_s is not None and not self._link:
                    self._later(action.for_s, self._restore_link)
            case "inject":
                self._inject(action)
            case "command":
                code = Order[action.word.upper()]
                self._command(code, argument=int(action.settings.get("terminal", 0)))
                self._note(f"{action.word} {self._ack}")
            case _:
                self._operate(action)

    def _restore_link(self) -> None:
        self._link = True
        self._note("link restored")

    def _later(self, for_s: float, undo: Callable[[], None]) -> None:
        self._ends.append((self._t_us + round(for_s * 1e6), undo))

    def _inject(self, action: Action) -> None:
        if self._real:
            self._note(f"{action.word} left out: the station is real")
            return
        if action.word == "clear":
            # What was to end later has ended: its own way back finds nothing left to do.
            self._device.recover()
            self._note("clear")
            return
        undo = self._device.disturb(action.word, action.settings)
        if undo is not None and action.for_s is not None:
            self._later(action.for_s, undo)
        self._note(f"injected {action.word}")

    def _operate(self, action: Action) -> None:
        master = int(self._station.read(Table.INPUT, 1012, 1)[0]) - 1
        staged = []
        for index in range(len(self.scenario.spec.terminals)):
            wanted = action.power_by_index.get(index)
            p_w = 0.0 if wanted is None else wanted.p_w
            if wanted is not None and wanted.drawn:
                p_w = self._draw.uniform(-abs(p_w), abs(p_w))
            usual = Mode.VDC_Q if index == master else Mode.P_Q
            staged.append(
                Staged(
                    p_w=round(p_w),
                    q_var=round(action.reactive_var.get(index, 0.0)),
                    mode_code=action.mode_by_index.get(index, int(usual)),
                    ramp_permille_per_s=action.ramp_permille_per_s,
                    vdc_permille=0,
                    fallback_w=0,
                    droop_permille=0,
                )
            )
        if not self._link:
            self._note("operate not sent: the link is cut")
            return
        words = encode(staged)
        self._station.write(20, words)
        crc = crc16(block_bytes(words))
        self._instruction += 1
        self._command(Order.SELECT, crc=crc, ttl_s=action.ttl_s)
        if self._ack == "ACCEPTED":
            self._command(Order.OPERATE, crc=crc, ttl_s=action.ttl_s)
        powers = " ".join(f"{s.p_w / 1000:g}" for s in staged)
        self._note(f"operate {powers} kW: {self._ack}")

    def _command(self, order: Order, *, crc: int = 0, ttl_s: int = 0, argument: int = 0) -> None:
        if not self._link:
            return
        self._seq = (self._seq + 1) & 0xFFFF
        instruction = self._instruction
        self._station.write(
            0,
            [
                self._seq, int(order), argument, crc, self._beat & 0xFFFF,
                self.scenario.watchdog_ds, self.scenario.failsafe_code, 200, instruction >> 16,
                instruction & 0xFFFF, ttl_s, OWNER_ID,
            ],
        )  # fmt: skip
        self._ack = Ack(self._station.read(Table.INPUT, 1007, 1)[0]).name

    def _heartbeat(self) -> None:
        if self._link:
            self._beat += 1
            self._station.write(4, [self._beat & 0xFFFF])

    # ------------------------------------------------------------------ samples

    def _sample(self) -> None:
        if len(self._course.samples) >= SAMPLES_MAX:
            raise ValueError(f"more than {SAMPLES_MAX} samples; lengthen sample")
        t_s, device = self._t_us * 1e-6, self._device
        if self._real:
            sample = sample_registers(self._station, device.sop.n, t_s)
            if self._grid is not None:
                self._grid.solve(sample, t_s)
        else:
            sample = sample_truth(device.sop, device.firmware, t_s)
        sample.words["ack"] = self._ack
        self._read_meters(sample)
        if self._dynamics is not None:
            sample.point_level["dc.v_min"] = self._dynamics.v_min_v
            sample.point_level["dc.v_max"] = self._dynamics.v_max_v
        if self._grid is not None:
            self._grid.tell(sample)
        self._course.samples.append(sample)

    def _read_meters(self, sample: Sample) -> None:
        """Net energy by the terminals' meters since the start, of real ones where named."""
        for index, meter in enumerate(self._device.meters):
            if index in self._meters:
                net_wh = metered_wh(self._meters[index])
            elif self._real:
                continue  # a simulated meter cannot see a real terminal
            else:
                net_wh = meter.export_wh() - meter.import_wh()
            start_wh = self._metered_start_wh.setdefault(index, net_wh)
            sample.point_level[f"T{index + 1}.metered"] = net_wh - start_wh


class _Feeders:
    """The simulated feeders of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        # power-grid-model is an extra; only scenarios with feeders need it.
        from firmware_sim.grid.flow import Grid  # noqa: PLC0415
        from firmware_sim.grid.networks import NETWORKS  # noqa: PLC0415
        from firmware_sim.grid.profile import built_in, constant, from_file  # noqa: PLC0415

        assert scenario.grid is not None
        self._grid: Any = Grid(NETWORKS[scenario.grid]())
        self._day_start_s = scenario.day_start_s
        self._period_us = round(scenario.grid_step_s * 1e6)
        self._flow: Any = None
        self._coupling: Any = None
        match scenario.profile:
            case "built-in":
                self._profile = built_in()
            case "constant":
                self._profile = constant()
            case name:
                self._profile = from_file(scenario.path.parent / Path(name))

    def attach(self, device: SopDevice) -> None:
        """Let the simulated terminals feed the network and feel its voltage."""
        from firmware_sim.grid.coupling import Coupling  # noqa: PLC0415

        self._coupling = Coupling(self._grid, device.sop, self._profile, period_us=self._period_us)
        device.couple = self._coupling.step
        device.switch_branch = self._coupling.switch
        self._coupling.step(self._day_start_s)

    def solve(self, sample: Sample, t_s: float) -> None:
        """Feed the network with the power a real station reports."""
        load, sun = self._profile.at(self._day_start_s + t_s)
        n = len(self._grid.network.terminals)
        self._flow = self._grid.solve(
            [sample.point_level[f"T{k + 1}.p"] for k in range(n)],
            [sample.point_level[f"T{k + 1}.q"] for k in range(n)],
            load_ratio=load,
            sun_ratio=sun,
        )

    def tell(self, sample: Sample) -> None:
        """Add what the network shows."""
        flow = self._flow if self._coupling is None else self._coupling.flow
        if flow is not None:
            sample.point_level["grid.loss"] = flow.loss_w
            sample.point_level["grid.v_min"] = flow.lowest[1]


def judge(expectation: Expectation, samples: tuple[Sample, ...]) -> Check:
    """Whether an expectation held in the samples of its time."""
    seen = [s for s in samples if expectation.from_s <= s.t_s <= expectation.to_s + 1e-9]
    if expectation.from_s == expectation.to_s:
        # An instant between two samples is judged on the next one.
        seen = [s for s in samples if s.t_s >= expectation.from_s - 1e-9][:1]
    if not seen:
        return Check(expectation=expectation, passed=False, detail="nothing was sampled then")
    for sample in seen:
        if expectation.word is not None:
            value = sample.words.get(expectation.point)
            if value is None or value.lower() != expectation.word.lower():
                return Check(
                    expectation=expectation, passed=False,
                    detail=f"{value} at {sample.t_s:g} s",
                )  # fmt: skip
            continue
        number = sample.point_level.get(expectation.point)
        low, high = expectation.lowest_level, expectation.highest_level
        if (
            number is None
            or (low is not None and number < low)
            or (high is not None and number > high)
        ):
            shown = "missing" if number is None else f"{number:g}"
            return Check(
                expectation=expectation, passed=False, detail=f"{shown} at {sample.t_s:g} s"
            )
    return Check(expectation=expectation, passed=True, detail=_seen(expectation, seen))


def _seen(expectation: Expectation, samples: list[Sample]) -> str:
    if expectation.word is not None:
        return expectation.word
    values = [s.point_level[expectation.point] for s in samples]
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def trace_rows(samples: tuple[Sample, ...]) -> str:
    """All samples as CSV; the same seed gives the same bytes."""
    if not samples:
        return "t_s\n"
    numbers, words = sorted(samples[-1].point_level), sorted(samples[-1].words)
    rows = [",".join(("t_s", *numbers, *words))]
    rows += [
        ",".join(
            (
                f"{s.t_s:.3f}",
                *(f"{s.point_level.get(name, float('nan')):.3f}" for name in numbers),
                *(s.words.get(name, "") for name in words),
            )
        )
        for s in samples
    ]
    return "\n".join(rows) + "\n"
