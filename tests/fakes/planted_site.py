"""A simulated site with faults planted in it: a cabinet as an engineer may find it.

The physics, firmware and register maps are the simulator's; only the wiring between them is wrong.
Imported by tests in the same loop, or run as a program with a control socket of JSON lines::

    python planted_site.py --dir DIR --factor 10 --plant reversed:m2:L2 --plant words:m3 …

Plants: ``reversed:METER:PHASE``, ``crossed:METER``, ``meters:METER:METER`` (swapped), ``words:METER``, ``ratio:METER:FACTOR``,
``energy:METER:FACTOR`` (the counters alone), ``counters:METER``, ``watchdog``, ``watchdog-zero``, ``door`` (the contact is wired the wrong way),
``loads:WATTS``.
"""

import argparse
import asyncio
import cmath
import json
import math
import random
import time
from pathlib import Path

from firmware_sim.bench import STATION_UNIT, ModbusTcpServer, Options, Responder, SopDevice
from firmware_sim.faces.registers import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusalError,
    Table,
    f32,
    u64,
)
from firmware_sim.plant.ratings import SPECS
from firmware_sim.plant.states import Event
from firmware_sim.timebase import SimClock, TimeBase

TURN = [cmath.exp(-2j * math.pi * k / 3) for k in range(3)]
DOOR_BIT = 1 << 14


class Loads:
    """Household loads on three phases that switch at random instants of simulated time."""

    def __init__(self, step_w, seed, mean_gap_s=15.0):
        self._rng = random.Random(seed)
        self._step_w, self._gap_s = step_w, mean_gap_s
        self._next_s = [self._rng.expovariate(1 / mean_gap_s) for _ in range(3)]
        self._level = [complex(step_w, 0.1 * step_w)] * 3

    def at(self, t_s):
        """Complex power taken from the grid, per phase."""
        for k in range(3):
            while self._step_w and self._next_s[k] <= t_s:
                self._next_s[k] += self._rng.expovariate(1 / self._gap_s)
                size = cmath.rect(
                    self._rng.uniform(0, self._step_w), math.acos(self._rng.uniform(0.9, 1))
                )
                up = self._rng.random() < 0.5 or self._level[k].real < size.real
                self._level[k] += size if up else -size
        return self._level if self._step_w else [0j] * 3


class PlantedMeter:
    """An iEM3255 behind wrong wires: FC03, floats of kW, kvar, V, A and Hz, counters of Wh."""

    identity = ("Schneider Electric", "iEM3255", "2.0")
    first, last = 0x0BB7, 0x0CA2

    def __init__(self, converter, device, seed):
        self.converter, self.device, self.write_count = converter, device, 0
        self.order, self.turned = [0, 1, 2], [1, 1, 1]
        self.ratio, self.swapped, self.counters_swapped = 1.0, False, False
        self.counter_ratio = 1.0
        self.t_s, self.total_w, self.import_wh, self.export_wh = None, 0.0, 1e6, 1e6
        self.loads = Loads(0.0, seed)

    def read(self, table, address, count):
        """Registers of one read; what lies between the quantities reads as not available."""
        if table is not Table.HOLDING or not self.first <= address <= self.last + 1 - count:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        words = self.image()
        return [words.get(a, 0xFFFF) for a in range(address, address + count)]

    def write(self, address, values):
        """Nothing can be written; the attempt is counted."""
        self.write_count += 1
        raise ModbusRefusalError(ILLEGAL_VALUE)

    def discrete(self, address, count):
        """The meter has none."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def counted(self, p_w):
        """Both counters: the meter integrates what it sees, right or wrong."""
        now_s = self.device.now_us() / 1e6
        if self.t_s is not None:
            grown_wh = self.counter_ratio * (p_w + self.total_w) / 2 * (now_s - self.t_s) / 3600
            self.import_wh += max(0.0, grown_wh)
            self.export_wh += max(0.0, -grown_wh)
        self.t_s, self.total_w = now_s, p_w
        return [self.import_wh, self.export_wh]

    def image(self):
        """All quantities as the wrong wires let them be seen."""
        c = self.converter
        volts = c.v_ac_v / math.sqrt(3.0)
        loads = self.loads.at(self.device.now_us() / 1e6)
        line = [loads[k] - complex(c.p_w, c.q_var) / 3 for k in range(3)]
        seen = [
            self.ratio * self.turned[i] * line[self.order[i]] * TURN[i] / TURN[self.order[i]]
            for i in range(3)
        ]
        total = sum(seen)
        quantities = {
            0x0BF3: total.real / 1000,
            0x0BFB: total.imag / 1000,
            0x0C03: abs(total) / 1000,
        }
        quantities[0x0C0B] = total.real / abs(total) if abs(total) > 1 else 1.0
        quantities[0x0C25] = c.f_hz
        for k, s in enumerate(seen):
            quantities[0x0BB7 + 2 * k] = abs(s) / volts
            quantities[0x0BD3 + 2 * k] = volts
            quantities[0x0BED + 2 * k] = s.real / 1000
            quantities[0x0BF5 + 2 * k] = s.imag / 1000
        counters = self.counted(total.real)
        if self.counters_swapped:
            counters.reverse()
        blocks = [(at, f32(value)) for at, value in quantities.items()]
        blocks += [(0x0C83, u64(counters[0])), (0x0C87, u64(counters[1]))]
        words = {}
        for at, block in blocks:
            for k, word in enumerate(reversed(block) if self.swapped else block):
                words[at + k] = word
        return words


class PlantedStation:
    """The station's unit with wrong wires at its inputs and a watchdog that reads zero."""

    STATUS, WATCHDOG = 1001, 5

    def __init__(self, unit):
        self.unit, self.identity = unit, unit.identity
        self.turned_bits, self.more_bits, self.watchdog_zero = 0, 0, False

    def read(self, table, address, count):
        """The unit's registers as the wrong wires let them be seen."""
        words = list(self.unit.read(table, address, count))
        at = self.STATUS - address
        if table is Table.INPUT and 0 <= at < count:
            words[at] = words[at] ^ self.turned_bits | self.more_bits
        at = self.WATCHDOG - address
        if self.watchdog_zero and table is Table.HOLDING and 0 <= at < count:
            words[at] = 0
        return words

    def write(self, address, values):
        """Straight through."""
        self.unit.write(address, values)

    def discrete(self, address, count):
        """Straight through."""
        return self.unit.discrete(address, count)

    @property
    def write_count(self):
        """Writes that reached the unit."""
        return self.unit.write_count


class PlantedSite:
    """The device with its planted faults."""

    def __init__(self, *, factor=1.0, seed=7, plants=(), epoch_ns=None, utc_us=None):
        base = TimeBase(
            epoch_ns=time.monotonic_ns() if epoch_ns is None else epoch_ns,
            utc_epoch_us=time.time_ns() // 1000 if utc_us is None else utc_us,
            factor=factor,
        )
        self.base = base
        self.device = SopDevice(
            SPECS["lv4x250"], SimClock(base, time.monotonic_ns), Options(seed=seed, state="standby")
        )
        self.meters = [
            PlantedMeter(c, self.device, seed + k) for k, c in enumerate(self.device.sop.converters)
        ]
        self.device.meter_servers[:] = [
            ModbusTcpServer(Responder({1: m}, refresh=self.device.advance)) for m in self.meters
        ]
        self.station = PlantedStation(self.device.station_map)
        self.device.responder.units[STATION_UNIT] = self.station
        for plant in plants:
            self.plant(plant)

    def plant(self, text):
        """Plant one fault."""
        kind, *rest = text.split(":")
        meter = self.meters[int(rest[0][1:]) - 1] if rest and rest[0].startswith("m") else None
        firmware = self.device.firmware
        match kind:
            case "reversed":
                meter.turned[["L1", "L2", "L3"].index(rest[1])] = -1
            case "crossed":
                meter.order = [1, 0, 2]
            case "meters":
                other = self.meters[int(rest[1][1:]) - 1]
                meter.converter, other.converter = other.converter, meter.converter
            case "words":
                meter.swapped = True
            case "counters":
                meter.counters_swapped = True
            case "ratio":
                meter.ratio = float(rest[1])
            case "energy":
                meter.counter_ratio = float(rest[1])
            case "watchdog":
                firmware.watchdog_disabled = True
            case "watchdog-zero":
                firmware.watchdog_disabled = True
                self.station.watchdog_zero = True
            case "door":
                self.station.turned_bits = DOOR_BIT
            case "loads":
                for number, m in enumerate(self.meters):
                    m.loads = Loads(float(rest[0]), seed=number)
            case _:
                raise ValueError(text)

    def mend(self):
        """Take every planted fault back."""
        for m, converter in zip(self.meters, self.device.sop.converters, strict=True):
            m.converter = converter
            m.order, m.turned, m.ratio, m.counter_ratio = [0, 1, 2], [1, 1, 1], 1.0, 1.0
            m.swapped = m.counters_swapped = False
        self.device.firmware.watchdog_disabled = False
        self.station.turned_bits, self.station.watchdog_zero = 0, False

    def panel(self, word):
        """What a person does at the panel."""
        device, firmware = self.device, self.device.firmware
        device.advance()
        match word:
            case "unplug":
                device.station.cut(silent=True)
            case "plug":
                device.responder.wire.heal()
                device.station.drop_connections()
            case "local":
                firmware.local = True
            case "remote":
                firmware.local = False
            case "open-door":
                device.sop.door_open = True
            case "close-door":
                device.sop.door_open = False
            case "press":
                device.estop()
            case "release":
                device.release_estop()
                for index in range(device.sop.n):
                    device.sop.raise_event(index, Event.START)
            case _:
                raise ValueError(word)

    @property
    def write_count(self):
        """Writes that reached any unit."""
        units = [self.device.station_map, *self.device.terminal_maps, *self.meters]
        return sum(u.write_count for u in units)

    async def start(self):
        """Listen; return the ports."""
        return await self.device.start(0)

    async def run(self):
        """Keep the physics going."""
        await self.device.run(asyncio.sleep)

    async def close(self):
        """Close all ports."""
        await self.device.close()


def site_text(listening, *, name="Elm Street", factor_timeout_s=5):
    """A site file for the ports."""
    station, meters = listening["station"], listening["meters"]
    lines = [
        "version: 1",
        f"site: {{id: elm, name: {name}, timezone: Europe/Madrid}}",
        "mode: blocked",
        "devices:",
        f'  station: {{profile: sop-station-v1, url: "modbus+tcp://127.0.0.1:{station}", unit: 100}}',
    ]
    lines += [
        f'  m{k}: {{profile: schneider-iem3255, url: "modbus+tcp://127.0.0.1:{port}", unit: 1}}'
        for k, port in enumerate(meters, 1)
    ]
    lines += [
        "sops:",
        "  SOP-1:",
        "    station: station",
        "    master: T1",
        "    dc: {v_nominal: 800 V, v: [720 V, 880 V], throughput: 500 kW}",
        "    losses: {a: 0.4 %, b: 0.6 %, c: 0.6 %}",
        f"    heartbeat: {{period: 1 s, device_timeout: {factor_timeout_s} s, on_loss: ramp_zero}}",
        "    rearm: manual",
        "    terminals:",
    ]
    lines += [
        f"      T{k}: {{index: {k - 1}, meter: m{k}, domain: region-{k}, s: 250 kVA, "
        "guard: {p: [-230 kW, 230 kW], ramp: 20 %/s, v: [360 V, 440 V]}}"
        for k in range(1, len(meters) + 1)
    ]
    lines += [
        "market:",
        "  broker: mqtt://127.0.0.1:1883",
        '  signers: [{name: market-1, key: "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}]',
        "  required: 1",
        "  gate: 2 min",
        "  horizon: 48 h",
        "  over_limit: curtail",
        "ledger: {dir: ledger, origin: elm.example/SOP-1, key: {file: ledger.key}, "
        "checkpoint: {every: 10 s}, witnesses: []}",
        "runtime: {scan: 1 s, meter_poll: 5 s}",
        "limits: {dso_mask: none}",
    ]
    return "\n".join(lines) + "\n"


async def serve(arguments):
    """Run as a program until its control socket says quit."""
    site = PlantedSite(factor=arguments.factor, plants=arguments.plant)
    folder = arguments.dir
    listening = await site.start()
    base = {
        "epoch_ns": site.base.epoch_ns,
        "utc_epoch_us": site.base.utc_epoch_us,
        "factor": int(arguments.factor),
    }
    (folder / "timebase.json").write_text(json.dumps(base))
    (folder / "site.yaml").write_text(site_text(listening))
    over = asyncio.Event()

    async def answer(reader, writer):
        if line := await reader.readline():
            order = json.loads(line)
            match order["do"]:
                case "panel":
                    site.panel(order["what"])
                case "plant":
                    site.plant(order["what"])
                case "mend":
                    site.mend()
                case "quit":
                    over.set()
            site.device.advance()
            powers = [round(c.p_w) for c in site.device.sop.converters]
            told = {"writes": site.write_count, "p_w": powers, "t_s": site.device.now_us() / 1e6}
            writer.write(json.dumps(told).encode() + b"\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, folder / "control.sock")
    print(json.dumps({"listening": listening}), flush=True)
    async with server, asyncio.TaskGroup() as group:
        running = group.create_task(site.run())
        await over.wait()
        running.cancel()
    await site.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--plant", action="append", default=[])
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
