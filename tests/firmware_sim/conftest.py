"""A simulated device as its own process or in this one, and a client that knows the manual."""

import json
import socket
import struct
import subprocess
import sys

import pytest


class Wire:
    """The smallest honest Modbus TCP client: one request, one answer, checked."""

    def __init__(self, port, unit=100):
        self.port, self.unit, self.tid = port, unit, 0
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5)

    def exact(self, n):
        data = b""
        while len(data) < n:
            chunk = self.sock.recv(n - len(data))
            if not chunk:
                raise ConnectionError("closed")
            data += chunk
        return data

    def raw(self, pdu, unit=None):
        unit = self.unit if unit is None else unit
        self.tid = self.tid % 65535 + 1
        self.sock.sendall(struct.pack(">HHHB", self.tid, 0, len(pdu) + 1, unit) + pdu)
        tid, protocol, length, back = struct.unpack(">HHHB", self.exact(7))
        assert (tid, protocol, back) == (self.tid, 0, unit)
        return self.exact(length - 1)

    def read(self, fc, address, count, unit=None):
        reply = self.raw(struct.pack(">BHH", fc, address, count), unit)
        if reply[0] & 0x80:
            return reply[1]
        return list(struct.unpack(f">{count}H", reply[2:]))

    def write(self, address, values, unit=None):
        n = len(values)
        reply = self.raw(struct.pack(f">BHHB{n}H", 16, address, n, 2 * n, *values), unit)
        return reply[1] if reply[0] & 0x80 else 0

    def close(self):
        self.sock.close()


class Device:
    """A running ``sopsim device``."""

    def __init__(self, tmp_path, *args, kind="lv4x250"):
        self.control = tmp_path / "ctl"
        command = [sys.executable, "-m", "firmware_sim", "device", kind, "--port", "0"]
        self.process = subprocess.Popen(
            [*command, "--control", str(self.control), *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        self.wires = []
        if not line:
            said = self.process.stderr.read()
            self.close()
            raise AssertionError(said)
        self.listening = json.loads(line)["listening"]

    def wire(self, port=None, unit=100):
        wire = Wire(self.listening["station"] if port is None else port, unit)
        self.wires.append(wire)
        return wire

    def ask(self, order):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.control))
            sock.sendall(json.dumps(order).encode() + b"\n")
            return json.loads(sock.makefile().readline())

    def truth(self):
        return self.ask({"query": "truth"})["truth"]

    def close(self):
        for wire in self.wires:
            wire.close()
        self.process.terminate()
        self.process.wait(5)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(*args, kind="lv4x250"):
        device = Device(tmp_path, *args, kind=kind)
        running.append(device)
        return device

    yield begin
    for device in running:
        device.close()


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory):
    running = []

    def begin(*args, kind="lv4x250"):
        device = Device(tmp_path_factory.mktemp("device"), *args, kind=kind)
        running.append(device)
        return device

    yield begin
    for device in running:
        device.close()


class Rig:
    """Plant, firmware and station map in one process, on a time that only the test moves."""

    def __init__(self, kind="lv4x250", *, state="standby", bias=0.0, noise=0.0, seed=1, **kw):
        from firmware_sim.faces.station_map import StationMap
        from firmware_sim.plant.firmware import Firmware
        from firmware_sim.plant.ratings import SPECS
        from firmware_sim.plant.sop import Sop

        self.sop = Sop(
            SPECS[kind], seed=seed, bias_ratio_max=bias, noise_ratio=noise, state=state, **kw
        )
        self.firmware = Firmware(self.sop)
        self.map = StationMap(
            self.sop,
            lambda: self.firmware,
            now_us=lambda: self.sop.t_us,
            utc_us=lambda: self.sop.t_us,
        )
        self.seq = 0
        self.beat = 0
        self.ttl_s = 900
        self.owner = 7
        self.step_us = 20_000

    @property
    def powers(self):
        return [c.p_w for c in self.sop.converters]

    def wait(self, seconds, *, heartbeat=True, each=None):
        """Let simulated time pass, with a heartbeat every second unless told otherwise."""
        end = self.sop.t_us + round(seconds * 1e6)
        while self.sop.t_us < end:
            if heartbeat and self.sop.t_us % 1_000_000 == 0:
                self.beat += 1
                self.map.write(4, [self.beat & 0xFFFF])
            self.sop.step(self.step_us)
            self.firmware.tick(self.sop.t_us)
            if each is not None:
                each()

    def command(self, code, *, arg=0, crc=None, instr=0xCAFE0001, owner=None, seq=None):
        """Send one command and return its ACK_CODE."""
        from firmware_sim.plant.setpoints import block_bytes, crc16

        self.seq = self.seq + 1 if seq is None else seq
        crc = crc16(block_bytes(self.firmware.staged)) if crc is None else crc
        owner = self.owner if owner is None else owner
        words = [self.seq, code, arg, crc, self.beat & 0xFFFF, self.firmware.watchdog_ds]
        words += [int(self.firmware.failsafe), self.firmware.failsafe_ramp_permille_per_s]
        words += [instr >> 16, instr & 0xFFFF, self.ttl_s, owner]
        self.map.write(0, words)
        return int(self.firmware.ack_code)

    def stage(self, powers, *, modes=None, q=None, **extra):
        """Write the staged block."""
        from firmware_sim.plant.setpoints import Staged, encode

        master = self.sop.master_index
        defaults = {
            "ramp_permille_per_s": 200,
            "vdc_permille": 0,
            "fallback_w": 0,
            "droop_permille": 0,
        }
        setpoints = [
            Staged(
                p_w=p_w,
                q_var=0 if q is None else q[i],
                mode_code=(1 if i == master else 0) if modes is None else modes[i],
                **{**defaults, **{k: v[i] for k, v in extra.items()}},
            )
            for i, p_w in enumerate(powers)
        ]
        self.map.write(20, encode(setpoints))

    def operate(self, powers, **kw):
        """Stage, SELECT and OPERATE; returns both answers."""
        self.stage(powers, **kw)
        return self.command(7), self.command(8)


class Bench:
    """A whole device with its faces in one process, on a time that only the test moves."""

    def __init__(self, kind="lv4x250", *, factor=1.0, spec=None, **options):
        from firmware_sim.bench import Options, SopDevice
        from firmware_sim.control import Injector
        from firmware_sim.plant.ratings import SPECS
        from firmware_sim.timebase import SimClock, TimeBase

        self.ns, self.factor = 0, factor
        base = TimeBase(epoch_ns=0, utc_epoch_us=0, factor=factor)
        self.device = SopDevice(
            SPECS[kind] if spec is None else spec,
            SimClock(base, lambda: self.ns),
            Options(bias_ratio_max=0.0, noise_ratio=0.0, **options),
        )
        self.injector = Injector(self.device)
        self.seq = self.beat = 0

    @property
    def states(self):
        return [c.state.name for c in self.device.sop.converters]

    @property
    def powers(self):
        return [c.p_w for c in self.device.sop.converters]

    def wait(self, seconds, *, heartbeat=True):
        """Let simulated time pass, with a heartbeat every second unless told otherwise."""
        while seconds > 0:
            part = min(1.0, seconds)
            self.ns += round(part * 1e9 / self.factor)
            seconds -= part
            self.device.advance()
            self.injector.tick()
            if heartbeat:
                self.beat += 1
                self.write(4, [self.beat & 0xFFFF])

    def write(self, address, values):
        """A write to the station as a face carries it out."""
        n = len(values)
        pdu = struct.pack(f">BHHB{n}H", 16, address, n, 2 * n, *values)
        assert self.device.responder.respond(100, pdu)[0] == 16

    def command(self, code, *, arg=0, crc=0, ttl_s=900):
        self.seq += 1
        self.beat += 1
        words = [self.seq, code, arg, crc, self.beat & 0xFFFF, 50, 1, 200, 0, 1, ttl_s, 7]
        self.write(0, words)
        return int(self.device.firmware.ack_code)

    def operate(self, powers):
        """SELECT and OPERATE with the master in force; both answers."""
        from firmware_sim.plant.setpoints import Staged, block_bytes, crc16, encode

        words = encode(
            [
                Staged(
                    p_w=p_w, q_var=0, mode_code=int(k == self.device.sop.master_index),
                    ramp_permille_per_s=200, vdc_permille=0, fallback_w=0, droop_permille=0,
                )
                for k, p_w in enumerate(powers)
            ]
        )  # fmt: skip
        self.write(20, words)
        crc = crc16(block_bytes(words))
        return self.command(7, crc=crc), self.command(8, crc=crc)

    def inject(self, fault, **order):
        self.injector.inject(fault, order)


@pytest.fixture
def make_bench():
    return Bench


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def rig():
    return Rig()


@pytest.fixture
def make_rig():
    return Rig


@pytest.fixture(scope="session")
def make_rig_cached():
    """The same maker for hypothesis, which calls it once an example."""
    return Rig
