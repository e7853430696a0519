"""A simulated device as its own process, and a client that knows only the manual."""

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
        assert line, self.process.stderr.read()
        self.listening = json.loads(line)["listening"]
        self.wires = []

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
