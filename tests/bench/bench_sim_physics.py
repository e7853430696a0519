"""Simulated seconds per second by model and step, and power flows per second.

Run: ``python tests/bench/bench_sim_physics.py``. CPU time of one process, median of five runs.
Figures are printed, never asserted.
"""

import statistics
import time

from firmware_sim.grid.coupling import Coupling
from firmware_sim.grid.flow import Grid
from firmware_sim.grid.networks import NETWORKS
from firmware_sim.grid.profile import built_in
from firmware_sim.plant.dynamics import Dynamics
from firmware_sim.plant.ratings import SPECS
from firmware_sim.plant.sop import Sop

RUNS = 5


def running(kind="lv4x250"):
    sop = Sop(SPECS[kind], seed=1, state="run")
    s = sop.spec.terminals[0].s_va
    for converter, share in zip(sop.converters[1:], (0.8, -0.6, 0.4), strict=True):
        converter.accept(round(share * s), 0)
    return sop


def quasi_static(step_us, steps):
    sop = running()
    began = time.process_time()
    for _ in range(steps):
        sop.step(step_us)
    return steps * step_us * 1e-6 / (time.process_time() - began)


def dynamic(step_us, seconds):
    sop = running()
    for converter in sop.converters:
        converter.release()
    dynamics = Dynamics(sop, step_us=step_us)
    dynamics.start_from([200_000.0, -150_000.0, 100_000.0])
    began = time.process_time()
    for _ in range(round(seconds * 50)):
        dynamics.run(20_000)
    return seconds / (time.process_time() - began)


def with_feeders(step_us, steps, period_us):
    sop = running("mv4x3000")
    for converter, p_w in zip(sop.converters[1:], (-450e3, -50e3, 250e3), strict=True):
        converter.accept(round(p_w), 0)
    grid = Coupling(Grid(NETWORKS["ieee33-4t"]()), sop, built_in(), period_us=period_us)
    began = time.process_time()
    for _ in range(steps):
        sop.step(step_us)
        grid.step(sop.t_us * 1e-6)
    return steps * step_us * 1e-6 / (time.process_time() - began)


def power_flow(name, count):
    grid = Grid(NETWORKS[name]())
    n = len(grid.network.terminals)
    began = time.process_time()
    for k in range(count):
        grid.solve([1000.0 * (k % 50)] * n)
    return count / (time.process_time() - began)


def show(name, unit, call, *arguments):
    values = [call(*arguments) for _ in range(RUNS)]
    print(f"{name:52}{statistics.median(values):12.0f} {unit}", flush=True)


def main():
    for step_us in (20_000, 100_000, 1_000_000):
        title = f"quasi-static lv4x250, step {step_us / 1000:g} ms"
        show(title, "x real time", quasi_static, step_us, 5000)
    show("fast model lv4x250, step 0.1 ms", "x real time", dynamic, 100, 1.0)
    show("fast model lv4x250, step 1 ms", "x real time", dynamic, 1000, 10.0)
    show("mv4x3000 in ieee33-4t, step 1 s, flow each 1 s", "x real time",
         with_feeders, 1_000_000, 2000, 1_000_000)  # fmt: skip
    show("mv4x3000 in ieee33-4t, step 1 s, flow each 5 s", "x real time",
         with_feeders, 1_000_000, 5000, 5_000_000)  # fmt: skip
    for name in NETWORKS:
        show(f"power flow {name}", "flows/s", power_flow, name, 1000)


if __name__ == "__main__":
    main()
