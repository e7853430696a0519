"""SunSpec meter, model 203 (integers with scale factors) or 213 (floats), from register 40000."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from firmware_sim.faces.registers import ILLEGAL_ADDRESS, ModbusRefusalError, Table, f32, text
from firmware_sim.faces.sunspec_layout import ABSENT, LAYOUTS, lay_out
from firmware_sim.plant.meter import Meter

BASE = 40000
_TOTALS = {"": "", "phA": "1", "phB": "2", "phC": "3", "PhA": "1", "PhB": "2", "PhC": "3"}


def _points(float_model: bool) -> Mapping[str, tuple[str, float]]:  # noqa: FBT001
    """Point name to (quantity of the reading, factor)."""
    points: dict[str, tuple[str, float]] = {}
    scale = (lambda _: 1.0) if float_model else (lambda factor: factor)
    for suffix, phase in _TOTALS.items():
        lower, upper = f"ph{suffix[-1]}" if suffix else "", f"Ph{suffix[-1]}" if suffix else ""
        points[f"A{lower}"] = (f"i{phase}", scale(10.0))
        points[f"W{lower}"] = (f"p{phase}", scale(0.1))
        points[f"VA{lower}"] = (f"s{phase}", scale(0.1))
        points[f"VAR{lower}"] = (f"q{phase}", scale(0.1))
        points[f"PF{lower}"] = (f"pf{phase}", scale(1000.0))
        points[f"TotWhExp{upper}"] = (f"e_exp{phase}", 1.0)
        points[f"TotWhImp{upper}"] = (f"e_imp{phase}", 1.0)
    for name, quantity in (("PhV", "u_ln"), ("PhVphA", "u1"), ("PhVphB", "u2"), ("PhVphC", "u3")):
        points[name] = (quantity, scale(10.0))
    line = "P" if not float_model else "PPV"
    points["PPV"] = ("u_ll", scale(10.0))
    for pair, quantity in (("AB", "u12"), ("BC", "u23"), ("CA", "u31")):
        points[f"{'PhVph' if line == 'P' else 'PPVph'}{pair}"] = (quantity, scale(10.0))
    points["Hz"] = ("f", scale(100.0))
    points["Evt"] = ("zero", 1.0)
    return points


_SCALES = {"A_SF": -1, "V_SF": -1, "Hz_SF": -2, "W_SF": 1, "VA_SF": 1, "VAR_SF": 1, "PF_SF": -3,
           "TotWh_SF": 0, "TotVAh_SF": 0, "TotVArh_SF": 0}  # fmt: skip


class SunSpecMeter:
    """Models 1 and 203 or 213."""

    def __init__(self, model_id: int, meter: Meter, *, ahead_s: Callable[[], float]) -> None:
        self._model_id = model_id
        self.meter = meter
        self._ahead_s = ahead_s
        self.identity = ("sop-gateway bench", f"METER-{model_id}", "1.0")
        self._places, self._end = lay_out((1, model_id), BASE)
        self._points = _points(model_id == 213)
        self.write_count = 0

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Holding registers from 40000 to the end model."""
        if table is not Table.HOLDING or address < BASE or address + count > self._end + 2:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        return self._image()[address - BASE : address - BASE + count]

    def _image(self) -> list[int]:
        reading = self.meter.reading(self._ahead_s())
        common = {"Mn": "sop-gateway bench", "Md": self.identity[1], "Opt": "", "Vr": "1.0",
                  "SN": str(self.meter.serial_id)}  # fmt: skip
        words = [0x5375, 0x6E53]
        for model_id in (1, self._model_id):
            body: list[int] = []
            for word in LAYOUTS[model_id].split():
                name, kind = word.rstrip("!").split(":")
                body += self._point(model_id, name, kind, reading, common)
            words += [model_id, len(body), *body]
        return [*words, 0xFFFF, 0]

    def _point(
        self,
        model_id: int,
        name: str,
        kind: str,
        reading: Mapping[str, float],
        common: Mapping[str, str],
    ) -> Sequence[int]:
        size = self._places[f"{model_id}.{name}"].size
        if model_id == 1:
            if name in common:
                return text(common[name], size)
            return (1,) if name == "DA" else ABSENT[kind]
        if kind == "sf":
            return (_SCALES[name] & 0xFFFF,)
        if name not in self._points:
            return ABSENT[kind]
        quantity, factor = self._points[name]
        value = reading[quantity] * factor
        if kind == "f32":
            return f32(value)
        bits = (math.floor(value) if kind == "a32" else round(value)) & (1 << 16 * size) - 1
        return tuple(bits >> 16 * k & 0xFFFF for k in reversed(range(size)))

    def write(self, _address: int, _values: Sequence[int]) -> None:
        """Nothing that matters here can be written."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def discrete(self, _address: int, _count: int) -> Sequence[bool]:
        """Meters have none."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)
