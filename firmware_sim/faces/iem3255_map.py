"""Schneider iEM3255 on Modbus: holding registers by FC03, wire addresses (manual minus one)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from firmware_sim.faces.registers import (
    ILLEGAL_ADDRESS,
    ModbusRefusalError,
    Sparse,
    Table,
    f32,
    text,
    u64,
)
from firmware_sim.plant.meter import Meter


class Iem3255Map:
    """One three-phase transformer-connected meter; kW, kvar, V, A, Hz and Wh."""

    identity = ("Schneider Electric", "iEM3255", "2.0")

    def __init__(self, meter: Meter, *, ahead_s: Callable[[], float]) -> None:
        self._meter = meter
        self._ahead_s = ahead_s
        self.write_count = 0

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """FC03; addresses between the listed quantities read as not available."""
        if table is not Table.HOLDING:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        return self._image().get(address, count)

    def discrete(self, _address: int, _count: int) -> Sequence[bool]:
        """The meter has none."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def write(self, _address: int, _values: Sequence[int]) -> None:
        """Nothing of interest can be written."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def _image(self) -> Sparse:
        meter, c = self._meter, self._meter.converter
        amps = c.i_pu() * c.rated.i_nominal_a
        p_kw, q_kvar = meter.p_w() / 1000.0, meter.q_var() / 1000.0
        s_kva = math.hypot(p_kw, q_kvar)
        v_ln = c.v_ac_v / math.sqrt(3.0)
        ahead_s = self._ahead_s()
        words = Sparse()
        words.put(0x001D, text("iEM3255", 20))
        words.put(0x0031, text("iEM3255", 20))
        words.put(0x0045, text("Schneider Electric", 20))
        words.put(0x0081, divmod(meter.serial_id, 65536))
        for k in range(3):
            words.put(0x0BB7 + 2 * k, f32(amps))
            words.put(0x0BCB + 2 * k, f32(c.v_ac_v))
            words.put(0x0BD3 + 2 * k, f32(v_ln))
            words.put(0x0BED + 2 * k, f32(p_kw / 3))
            words.put(0x0BF5 + 2 * k, f32(q_kvar / 3))
            words.put(0x0BFD + 2 * k, f32(s_kva / 3))
            words.put(0x0DBD + 4 * k, u64(meter.import_wh(ahead_s) / 3))
        words.put(0x0BC1, f32(amps))
        words.put(0x0BD1, f32(c.v_ac_v))
        words.put(0x0BDB, f32(v_ln))
        words.put(0x0BF3, f32(p_kw))
        words.put(0x0BFB, f32(q_kvar))
        words.put(0x0C03, f32(s_kva))
        words.put(0x0C0B, f32(p_kw / s_kva if s_kva > 1e-3 else 1.0))
        words.put(0x0C25, f32(c.f_hz))
        words.put(0x0C83, u64(meter.import_wh(ahead_s)))
        words.put(0x0C87, u64(meter.export_wh(ahead_s)))
        words.put(0x0C93, u64(0))
        words.put(0x0C97, u64(0))
        words.fill(0x0BB7, 0x0CA2, 0xFFFF)
        return words
