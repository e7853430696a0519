"""A simulated soft open point in this process, behind real Modbus TCP; time goes on when told."""

import asyncio
import contextlib
import random

from firmware_sim.bench import Options, SopDevice
from firmware_sim.control import Injector
from firmware_sim.plant.ratings import SPECS
from firmware_sim.proxy import FaultProxy
from firmware_sim.timebase import SimClock, TimeBase
from gateway.config.profile_file import load_profile
from gateway.devices.connect import Endpoints, open_converters
from gateway.model.setpoint import Command, ControlMode, Instruction, Setpoint
from gateway.model.terminal import Terminal

PROFILE = load_profile("sunspec-vsc")
EPOCH_US = 1_790_000_000_000_000
TERMINALS = tuple(
    Terminal(
        id=f"T{n + 1}", index=n, domain="r", meter="m", s_va=250_000, p_w_min=-230_000,
        p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3600, v_dv_max=4400,
    )
    for n in range(4)
)  # fmt: skip


class Time:
    """The one clock of the simulated device and of the driver; it stands still by itself."""

    now_us, factor = 0, 1

    def monotonic_ns(self):
        return self.now_us * 1000

    def mono_us(self):
        return self.now_us

    def utc_us(self):
        return EPOCH_US + self.now_us

    def at_least(self, real_us):
        return real_us * self.factor


class ConverterBench:
    """Device, a proxy that can lie before each terminal's unit, and the driver over all four."""

    def __init__(self, *, state="standby", kind="lv4x250", **options):
        self.time = Time()
        base = TimeBase(epoch_ns=0, utc_epoch_us=EPOCH_US, factor=1.0)
        self.device = SopDevice(
            SPECS[kind],
            SimClock(base, self.time.monotonic_ns),
            Options(state=state, bias_ratio_max=0.0, noise_ratio=0.0, **options),
        )
        self.injector = Injector(self.device)
        self.proxies = []

    @property
    def sop(self):
        return self.device.sop

    async def open(self):
        port = (await self.device.start(0))["station"]
        self.urls = []
        for _ in TERMINALS:
            proxy = FaultProxy("127.0.0.1", port, rng=random.Random(1), wait=asyncio.sleep)
            self.proxies.append(proxy)
            self.urls.append(f"modbus+tcp://127.0.0.1:{await proxy.start()}")
        self.station = self.driver()
        return self

    def driver(self, *, together=False, **changes):
        """A driver of its own, as after a start; ``together``: all units behind one address."""
        devices = {
            t.id: (
                f"sop1-{t.id.lower()}",
                PROFILE,
                self.urls[0 if together else t.index],
                t.index + 1,
            )
            for t in TERMINALS
        }
        fields = {
            "name": "sop1", "devices": devices, "terminals": TERMINALS, "master": "T1",
            "clock": self.time, "owner": 7, "timeout_s": 2.0, "endpoints": Endpoints(),
        }  # fmt: skip
        return open_converters(**fields | changes)

    async def close(self):
        await self.station.close()
        for proxy in self.proxies:
            await proxy.close()
        await self.device.close()

    def wait(self, seconds):
        """Let the device live on."""
        self.time.now_us += round(seconds * 1e6)
        self.device.advance()

    async def live(self, seconds):
        """Let the device live on under a sign of life each second."""
        for _ in range(seconds):
            await self.station.heartbeat(0)
            self.wait(1)
        return await self.station.read()

    def fault(self, terminal, fault, **settings):
        self.proxies[terminal - 1].apply(fault, **settings)

    def watch(self, terminal):
        """Every write to a terminal's unit from now on: (address, registers)."""
        face, seen = self.device.terminal_maps[terminal - 1], []
        inner = face.write

        def write(address, values):
            seen.append((address, list(values)))
            inner(address, values)

        face.write = write
        return seen

    def well(self):
        """Be honest again, and let the driver ask at once."""
        for proxy in self.proxies:
            proxy.clear()
        for converter in self.station._converters.values():
            converter._unit._not_before_s = 0.0

    def set_w(self):
        """What the converters really follow."""
        return [round(c.p_set_w) for c in self.sop.converters]

    async def ready(self):
        """Running, armed, at zero."""
        await self.station.read()
        await self.station.configure(
            watchdog_ds=50, failsafe=1, failsafe_ramp_permille_per_s=200, lease_owner=7
        )
        await self.station.command(Command.EXIT_STANDBY)
        return await self.station.read()

    async def carry_out(self, *powers, **fields):
        """SELECT, read back, OPERATE; returns the instruction."""
        self.wait(1)  # the guard's rest between two writes
        wanted = instruction(*powers, **fields)
        await self.station.read()
        self.acks = [await self.station.select(wanted)]
        assert await self.station.staged_equals(wanted)
        self.acks.append(await self.station.operate(wanted))
        return wanted


def instruction(*powers, q=(0, 0, 0, 0), order=(0, 1, 2, 3), **fields):
    """An instruction for T1 (the master) to T4, written in the given order."""
    setpoints = tuple(
        Setpoint(
            terminal=f"T{n + 1}",
            mode=ControlMode.P_Q if n else ControlMode.VDC_Q,
            p_w=powers[n],
            q_var=q[n],
        )
        for n in order
    )
    given = {"id": 0xDEADBEEF, "sop": "S", "ramp_permille_per_s": 200, "ttl_s": 905} | fields
    return Instruction(**given, setpoints=setpoints)


@contextlib.asynccontextmanager
async def converter_bench(**options):
    bench = await ConverterBench(**options).open()
    try:
        yield bench
    finally:
        await bench.close()


def powers(seen):
    """Active set values of a reading, by terminal."""
    return [t.p_w_set_active for t in seen.terminals]
