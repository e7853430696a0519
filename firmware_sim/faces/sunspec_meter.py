"""SunSpec meter, model 203 (integers with scale factors) or 213 (floats), from register 40000."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from firmware_sim.faces.registers import ILLEGAL_ADDRESS, ModbusRefusalError, Table, f32, text
from firmware_sim.faces.sunspec_layout import ABSENT, LAYOUTS, lay_out
from firmware_sim.plant.meter import Meter
from firmware_sim.plant.ratings import Ratings

BASE = 40000
_TOTALS = {"": "", "phA": "1", "phB": "2", "phC": "3", "PhA": "1", "PhB": "2", "PhC": "3"}


def _points(scales: Mapping[str, int] | None) -> Mapping[str, tuple[str, float]]:
    """Point name to (quantity of the reading, factor); without scales for a model of floats."""

    def factor(name: str) -> float:
        return 1.0 if scales is None else 10.0 ** -scales[name]

    points: dict[str, tuple[str, float]] = {}
    for suffix, phase in _TOTALS.items():
        lower, upper = f"ph{suffix[-1]}" if suffix else "", f"Ph{suffix[-1]}" if suffix else ""
        points[f"A{lower}"] = (f"i{phase}", factor("A_SF"))
        points[f"W{lower}"] = (f"p{phase}", factor("W_SF"))
        points[f"VA{lower}"] = (f"s{phase}", factor("VA_SF"))
        points[f"VAR{lower}"] = (f"q{phase}", factor("VAR_SF"))
        points[f"PF{lower}"] = (f"pf{phase}", factor("PF_SF"))
        points[f"TotWhExp{upper}"] = (f"e_exp{phase}", 1.0)
        points[f"TotWhImp{upper}"] = (f"e_imp{phase}", 1.0)
    volts = factor("V_SF")
    for name, quantity in (("PhV", "u_ln"), ("PhVphA", "u1"), ("PhVphB", "u2"), ("PhVphC", "u3")):
        points[name] = (quantity, volts)
    points["PPV"] = ("u_ll", volts)
    line = "PPVph" if scales is None else "PhVph"
    for pair, quantity in (("AB", "u12"), ("BC", "u23"), ("CA", "u31")):
        points[f"{line}{pair}"] = (quantity, volts)
    points["Hz"] = ("f", factor("Hz_SF"))
    points["Evt"] = ("zero", 1.0)
    return points


_SCALES = {"A_SF": -1, "V_SF": -1, "Hz_SF": -2, "W_SF": 1, "VA_SF": 1, "VAR_SF": 1, "PF_SF": -3,
           "TotWh_SF": 0, "TotVAh_SF": 0, "TotVArh_SF": 0}  # fmt: skip
INT16_MAX = 32_767
# How far beyond its rating a value must still be readable.
BEYOND_RATIO = 1.3


def _scales(rated: Ratings | None) -> Mapping[str, int]:
    """Exponents at which a value beyond the rating still fits its 16 bits."""
    if rated is None:
        return _SCALES

    def fitting(exponent: int, rating: float) -> int:
        while rating * BEYOND_RATIO / 10**exponent > INT16_MAX:
            exponent += 1
        return exponent

    power = fitting(_SCALES["W_SF"], rated.s_va)
    return {
        **_SCALES, "W_SF": power, "VA_SF": power, "VAR_SF": power,
        "V_SF": fitting(_SCALES["V_SF"], rated.v_ac_nominal_v),
        "A_SF": fitting(_SCALES["A_SF"], rated.i_nominal_a),
    }  # fmt: skip


class SunSpecMeter:
    """Models 1 and 203 or 213."""

    def __init__(
        self,
        model_id: int,
        meter: Meter,
        *,
        ahead_s: Callable[[], float],
        rated: Ratings | None = None,
    ) -> None:
        self._model_id = model_id
        self.meter = meter
        self._ahead_s = ahead_s
        self.identity = ("sop-gateway bench", f"METER-{model_id}", "1.0")
        self._places, self._end = lay_out((1, model_id), BASE)
        self._scales = _scales(rated)
        self._points = _points(None if model_id == 213 else self._scales)
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
            return (self._scales[name] & 0xFFFF,)
        if name not in self._points:
            return ABSENT[kind]
        quantity, factor = self._points[name]
        value = reading[quantity] * factor
        if kind == "f32":
            return f32(value)
        if kind == "i16" and abs(value) > INT16_MAX:
            return ABSENT[kind]  # what does not fit must not come back as another value
        bits = (math.floor(value) if kind == "a32" else round(value)) & (1 << 16 * size) - 1
        return tuple(bits >> 16 * k & 0xFFFF for k in reversed(range(size)))

    def write(self, _address: int, _values: Sequence[int]) -> None:
        """Nothing that matters here can be written."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def discrete(self, _address: int, _count: int) -> Sequence[bool]:
        """Meters have none."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)
