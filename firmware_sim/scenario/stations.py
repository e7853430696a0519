"""The two stations a scenario can drive: the simulated one, and a real one over Modbus TCP.

Both are driven through the registers of ``sop-station-v1``, so that a scenario runs unchanged when
an address takes the place of the simulation.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Protocol

from firmware_sim.faces.registers import Table, signed32
from firmware_sim.faces.station_map import StationMap
from firmware_sim.plant.converter import Mode
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import OpState
from firmware_sim.scenario.model import Sample

TIMEOUT_S = 3.0


class Station(Protocol):
    """Registers of a station, near or far."""

    def read(self, table: Table, address: int, count: int, /) -> Sequence[int]:
        """Registers of one read."""
        ...

    def write(self, address: int, values: Sequence[int], /) -> None:
        """One write of consecutive registers."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class SimulatedStation:
    """The station of this process."""

    def __init__(self, sop: Sop, firmware: Callable[[], Firmware]) -> None:
        self._map = StationMap(sop, firmware, now_us=lambda: sop.t_us, utc_us=lambda: sop.t_us)

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Registers of one read."""
        return self._map.read(table, address, count)

    def write(self, address: int, values: Sequence[int]) -> None:
        """One write."""
        self._map.write(address, values)

    def close(self) -> None:
        """Nothing to let go of."""


class RealStation:
    """A station at an address; strict about every answer, and never writes twice."""

    def __init__(self, host: str, port: int, unit_id: int) -> None:
        self._unit_id = unit_id
        self._transaction_id = 0
        self._socket = socket.create_connection((host, port), timeout=TIMEOUT_S)

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Registers of one read."""
        function = 3 if table is Table.HOLDING else 4
        reply = self._ask(struct.pack(">BHH", function, address, count))
        if reply[1] != 2 * count or len(reply) != 2 + 2 * count:
            raise ConnectionError("the answer has another length than asked for")
        return struct.unpack(f">{count}H", reply[2:])

    def write(self, address: int, values: Sequence[int]) -> None:
        """One write."""
        n = len(values)
        request = struct.pack(f">BHHB{n}H", 16, address, n, 2 * n, *values)
        if self._ask(request) != request[:5]:
            raise ConnectionError("the echo of a write differs")

    def _ask(self, pdu: bytes) -> bytes:
        self._transaction_id = self._transaction_id % 0xFFFF + 1
        head = struct.pack(">HHHB", self._transaction_id, 0, len(pdu) + 1, self._unit_id)
        self._socket.sendall(head + pdu)
        back = self._exactly(7)
        transaction_id, protocol, length, unit_id = struct.unpack(">HHHB", back)
        asked = (self._transaction_id, 0, self._unit_id)
        if (transaction_id, protocol, unit_id) != asked or not 2 <= length <= 254:
            raise ConnectionError("the answer belongs to another request")
        reply = self._exactly(length - 1)
        if reply[0] != pdu[0]:
            code = reply[1] if len(reply) > 1 else 0
            raise ConnectionError(f"refused with exception {code:02X}")
        return reply

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            chunk = self._socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("closed by the station")
            data += chunk
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def metered_wh(meter: RealStation) -> float:
    """Export minus import of a real iEM3255, in one read."""
    words = meter.read(Table.HOLDING, 0x0C83, 8)
    imported, exported = struct.unpack(">qq", struct.pack(">8H", *words))
    return float(exported - imported)


def sample_registers(station: Station, n: int, t_s: float) -> Sample:
    """What the station's registers say."""
    head = station.read(Table.INPUT, 1000, 28)
    values = {
        "dc.v": signed32(head[13], head[14]) / 10,
        "loss": float(signed32(head[15], head[16])),
    }
    words = {
        "state": OpState(head[0]).name,
        "master": f"T{head[12]}",
        "failsafe": "yes" if head[1] >> 9 & 1 else "no",
    }
    for index in range(n):
        block = station.read(Table.INPUT, 1100 + 40 * index, 34)
        name = f"T{index + 1}"
        injected, absorbed = struct.unpack(">QQ", struct.pack(">8H", *block[18:26]))
        values |= {
            f"{name}.p": float(signed32(block[1], block[2])),
            f"{name}.q": float(signed32(block[3], block[4])),
            f"{name}.v": signed32(block[7], block[8]) / 10,
            f"{name}.set": float(signed32(block[12], block[13])),
            f"{name}.energy": float(injected - absorbed),
        }
        words |= {
            f"{name}.state": OpState(block[0]).name,
            f"{name}.mode": Mode(block[33]).name,
        }
    return Sample(t_s=t_s, point_level=values, words=words)


def sample_truth(sop: Sop, firmware: Firmware, t_s: float) -> Sample:
    """What is true inside the simulated station."""
    values = {"dc.v": sop.v_dc_measured_v, "loss": sop.loss_w}
    words = {
        "state": sop.station_state().name,
        "master": f"T{sop.master_index + 1}",
        "failsafe": "yes" if firmware.comm_fault or firmware.failsafe_active else "no",
    }
    net = 0.0
    for index, c in enumerate(sop.converters):
        name = f"T{index + 1}"
        energy = c.injected_wh - c.absorbed_wh
        net += energy
        values |= {
            f"{name}.p": c.p_w, f"{name}.q": c.q_var, f"{name}.v": c.v_ac_v,
            f"{name}.set": c.p_set_w, f"{name}.energy": energy,
        }  # fmt: skip
        words |= {f"{name}.state": c.state.name, f"{name}.mode": c.mode.name}
    values["balance"] = net + sop.loss_wh
    return Sample(t_s=t_s, point_level=values, words=words)
