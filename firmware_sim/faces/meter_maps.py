"""Register lists of energy meters, each as its maker's manual prints it (wire addresses).

A row is ``address encoding quantity factor``: the register holds quantity × factor. Quantities are
those of ``Meter.reading`` in base units (V, A, W, var, Hz, Wh), powers positive on import.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_sim.faces.registers import (
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusalError,
    Table,
    f32,
    text,
)
from firmware_sim.plant.meter import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterModel:
    """How one make of meter speaks."""

    kind: str
    maker: str
    model: str
    tables: tuple[Table, ...]
    rows: str
    span_address: tuple[tuple[int, int], ...]
    gap_code: int = 0
    read_size_max: int = 125
    even_only: bool = False
    accuracy_percent: float = 1.0
    text_address: tuple[tuple[int, int, str], ...] = ()


def _phases(address: int, step: int, encoding: str, quantity: str, factor: str) -> str:
    return "".join(
        f"{address + k * step} {encoding} {quantity}{k + 1} {factor}\n" for k in range(3)
    )


SDM630 = MeterModel(
    kind="sdm630", maker="Eastron", model="SDM630", tables=(Table.INPUT,),
    rows=_phases(0x00, 2, "f32", "u", "1") + _phases(0x06, 2, "f32", "i", "1")
    + _phases(0x0C, 2, "f32", "p", "1") + _phases(0x12, 2, "f32", "s", "1")
    + _phases(0x18, 2, "f32", "q", "1") + _phases(0x1E, 2, "f32", "pf", "1")
    + """0x2A f32 u_ln 1
0x2E f32 i 1
0x34 f32 p 1
0x38 f32 s 1
0x3C f32 q 1
0x3E f32 pf 1
0x46 f32 f 1
0x48 f32 e_imp 0.001
0x4A f32 e_exp 0.001
0x4C f32 zero 1
0x4E f32 zero 1
0x156 f32 e_sum 0.001
"""
    + _phases(0x15A, 2, "f32", "e_imp", "0.001") + _phases(0x160, 2, "f32", "e_exp", "0.001"),
    span_address=((0x0000, 0x0181),), read_size_max=80, even_only=True,
)  # fmt: skip

IEM3255 = MeterModel(
    kind="iem3255", maker="Schneider Electric", model="iEM3255", tables=(Table.HOLDING,),
    rows=_phases(0x0BB7, 2, "f32", "i", "1") + "0x0BC1 f32 i 1\n0x0BD1 f32 u_ll 1\n"
    + "0x0BCB f32 u12 1\n0x0BCD f32 u23 1\n0x0BCF f32 u31 1\n"
    + _phases(0x0BD3, 2, "f32", "u", "1") + "0x0BDB f32 u_ln 1\n"
    + _phases(0x0BED, 2, "f32", "p", "0.001") + "0x0BF3 f32 p 0.001\n"
    + _phases(0x0BF5, 2, "f32", "q", "0.001") + "0x0BFB f32 q 0.001\n"
    + _phases(0x0BFD, 2, "f32", "s", "0.001") + "0x0C03 f32 s 0.001\n"
    + "0x0C0B f32 pf4 1\n0x0C25 f32 f 1\n0x0C83 i64 e_imp 1\n0x0C87 i64 e_exp 1\n"
    + "0x0C93 i64 zero 1\n0x0C97 i64 zero 1\n0x0081 u32 serial 1\n"
    + _phases(0x0DBD, 4, "i64", "e_imp", "1"),
    span_address=((0x001D, 0x0058), (0x0081, 0x0082), (0x0BB7, 0x0CA2), (0x0DBD, 0x0DC8)),
    gap_code=0xFFFF, accuracy_percent=0.5,
    text_address=(
        (0x001D, 20, "iEM3255"), (0x0031, 20, "iEM3255"), (0x0045, 20, "Schneider Electric"),
    ),
)  # fmt: skip

B23 = MeterModel(
    kind="b23", maker="ABB", model="B23 312-100", tables=(Table.HOLDING,),
    rows="0x5000 u64 e_imp 0.1\n0x5004 u64 e_exp 0.1\n0x5008 i64 e_net 0.1\n"
    + _phases(0x5460, 4, "u64", "e_imp", "0.1") + _phases(0x546C, 4, "u64", "e_exp", "0.1")
    + _phases(0x5B00, 2, "u32", "u", "10") + "0x5B06 u32 u12 10\n0x5B08 u32 u23 10\n"
    + "0x5B0A u32 u31 10\n" + _phases(0x5B0C, 2, "u32", "i", "100")
    + "0x5B14 i32 p 100\n" + _phases(0x5B16, 2, "i32", "p", "100")
    + "0x5B1C i32 q 100\n" + _phases(0x5B1E, 2, "i32", "q", "100")
    + "0x5B24 i32 s 100\n" + _phases(0x5B26, 2, "i32", "s", "100")
    + "0x5B2C u16 f 100\n0x5B3A i16 pf 1000\n0x8900 u32 serial 1\n",
    span_address=((0x5000, 0x501F), (0x5460, 0x547F), (0x5B00, 0x5B43), (0x8900, 0x8901)),
    gap_code=0xFFFF,
)  # fmt: skip


def _umg_rows() -> str:
    listed = (
        _phases(19000, 2, "f32", "u", "1") + "19006 f32 u12 1\n19008 f32 u23 1\n"
        "19010 f32 u31 1\n" + _phases(19012, 2, "f32", "i", "1") + "19018 f32 zero 1\n"
        + _phases(19020, 2, "f32", "p", "1") + "19026 f32 p 1\n"
        + _phases(19028, 2, "f32", "s", "1") + "19034 f32 s 1\n"
        + _phases(19036, 2, "f32", "q", "1") + "19042 f32 q 1\n"
        + _phases(19044, 2, "f32", "pf", "1") + "19050 f32 f 1\n19060 f32 e_net 1\n"
        + _phases(19062, 2, "f32", "e_imp", "1") + "19068 f32 e_imp 1\n"
        + _phases(19070, 2, "f32", "e_exp", "1") + "19076 f32 e_exp 1\n"
    )  # fmt: skip
    # The same list once more, 32768 higher, with the words the other way round.
    turned = "".join(
        f"{int(row.split()[0], 0) + 32768} f32le {' '.join(row.split()[2:])}\n"
        for row in listed.splitlines()
    )
    return listed + turned


UMG604 = MeterModel(
    kind="umg604", maker="Janitza", model="UMG 604-PRO", tables=(Table.HOLDING, Table.INPUT),
    rows=_umg_rows(), span_address=((19000, 19121), (51768, 51889)), accuracy_percent=0.5,
)  # fmt: skip


def _em24(kind: str, tables: tuple[Table, ...], offsets: dict[str, int], size: int) -> MeterModel:
    o = offsets
    return MeterModel(
        kind=kind, maker="Carlo Gavazzi", model="EM24", tables=tables,
        rows=_phases(0x00, 2, "i32lw", "u", "10") + "0x06 i32lw u12 10\n0x08 i32lw u23 10\n"
        + "0x0A i32lw u31 10\n" + _phases(0x0C, 2, "i32lw", "i", "1000")
        + _phases(0x12, 2, "i32lw", "p", "10") + _phases(0x18, 2, "i32lw", "s", "10")
        + _phases(0x1E, 2, "i32lw", "q", "10") + "0x24 i32lw u_ln 10\n0x26 i32lw u_ll 10\n"
        + "0x28 i32lw p 10\n0x2A i32lw s 10\n0x2C i32lw q 10\n"
        + f"{o['pf']} i16 pf 1000\n{o['f']} i16 f 10\n{o['imp']} i32lw e_imp 0.01\n"
        + f"{o['exp']} i32lw e_exp 0.01\n" + _phases(o["phase"], 2, "i32lw", "e_imp", "0.01"),
        span_address=((0x0000, 0x005F),), read_size_max=size,
    )  # fmt: skip


EM24 = _em24(
    "em24", (Table.INPUT, Table.HOLDING),
    {"pf": 0x35, "f": 0x37, "imp": 0x42, "exp": 0x5C, "phase": 0x46}, 11,
)  # fmt: skip
EM24_E1 = _em24(
    "em24_e1", (Table.INPUT, Table.HOLDING),
    {"pf": 0x31, "f": 0x33, "imp": 0x34, "exp": 0x4E, "phase": 0x40}, 125,
)  # fmt: skip

MODELS = {m.kind: m for m in (IEM3255, UMG604, SDM630, B23, EM24, EM24_E1)}


def _integer(value: float, bits: int) -> int:
    return math.floor(value + 1e-9) & (1 << bits) - 1


def _words(value: int, count: int) -> tuple[int, ...]:
    return tuple(value >> 16 * k & 0xFFFF for k in reversed(range(count)))


def encode(encoding: str, value: float) -> tuple[int, ...]:
    """Registers of one value; integers are cut to whole steps and wrap at their width."""
    match encoding:
        case "f32":
            return f32(value)
        case "f32le":
            low, high = struct.unpack("<HH", struct.pack("<f", value))
            return low, high
        case "i32lw":
            high, low = _words(_integer(value, 32), 2)
            return low, high
        case "u16" | "i16":
            return (round(value) & 0xFFFF,)
        case "u32" | "i32":
            return _words(_integer(value, 32), 2)
        case _:
            return _words(_integer(value, 64), 4)


def four_quadrant(pf: float, q_var: float) -> float:
    """Power factor on the four-quadrant scale −2 to 2: beyond ±1 means leading."""
    if q_var >= 0.0:
        return pf
    return math.copysign(2.0, pf) - pf


class MeterMap:
    """One meter on the wire."""

    def __init__(self, model: MeterModel, meter: Meter, *, ahead_s: Callable[[], float]) -> None:
        self.model = model
        self.meter = meter
        self._ahead_s = ahead_s
        self.identity = (model.maker, model.model, "1.0")
        self.write_count = 0
        rows = [row.split() for row in model.rows.splitlines()]
        self._rows = sorted(
            (int(address, 0), encoding, quantity, float(factor))
            for address, encoding, quantity, factor in rows
        )

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Registers of one read under the limits of this make."""
        model = self.model
        if table not in model.tables:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        if count > model.read_size_max or (model.even_only and count % 2):
            raise ModbusRefusalError(ILLEGAL_VALUE)
        end = address + count
        if not any(low <= address and end - 1 <= high for low, high in model.span_address):
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        words = [model.gap_code] * count
        values = self.meter.reading(self._ahead_s())
        for at, encoding, quantity, factor in self._rows:
            if at >= end or at + 4 <= address:
                continue
            if quantity == "pf4":
                value = four_quadrant(values["pf"], values["q"])
            else:
                value = values[quantity] * factor
            self._place(words, address, at, encode(encoding, value))
        for at, size, content in model.text_address:
            self._place(words, address, at, text(content, size))
        return words

    @staticmethod
    def _place(words: list[int], address: int, at: int, content: Sequence[int]) -> None:
        for offset, word in enumerate(content):
            index = at + offset - address
            if 0 <= index < len(words):
                words[index] = word

    def write(self, _address: int, _values: Sequence[int]) -> None:
        """Nothing that matters here can be written."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def discrete(self, _address: int, _count: int) -> Sequence[bool]:
        """Meters have none."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)
