"""Quantities with units: the only place where text becomes a number in base units and back.

Units are case-sensitive, as the SI writes them: ``kW`` is a power, ``kw`` is a mistake.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

# dimension -> {unit: factor to the base unit of that dimension}
UNITS: dict[str, dict[str, Decimal]] = {
    "power": {"W": Decimal(1), "kW": Decimal(1000), "MW": Decimal(1_000_000)},
    "reactive_power": {"var": Decimal(1), "kvar": Decimal(1000), "Mvar": Decimal(1_000_000)},
    "apparent_power": {"VA": Decimal(1), "kVA": Decimal(1000), "MVA": Decimal(1_000_000)},
    "energy": {"Wh": Decimal(1), "kWh": Decimal(1000), "MWh": Decimal(1_000_000)},
    "reactive_energy": {"varh": Decimal(1), "kvarh": Decimal(1000)},
    "voltage": {"mV": Decimal("0.001"), "V": Decimal(1), "kV": Decimal(1000)},
    "current": {"mA": Decimal("0.001"), "A": Decimal(1), "kA": Decimal(1000)},
    "frequency": {"Hz": Decimal(1)},
    "time": {
        "us": Decimal("0.000001"),
        "ms": Decimal("0.001"),
        "s": Decimal(1),
        "min": Decimal(60),
        "h": Decimal(3600),
        "d": Decimal(86400),
    },
    "ratio": {"%": Decimal("0.01"), "1": Decimal(1)},
    "ratio_rate": {"%/s": Decimal("0.01")},
    "power_rate": {"W/s": Decimal(1), "kW/s": Decimal(1000)},
    "temperature": {"°C": Decimal(1)},
    "speed": {"x": Decimal(1)},
}
# Units to propose where one was left out, when not the first of the table.
USUAL = {"time": ("s", "min", "h"), "ratio": ("%",)}
DIMENSION_OF = {unit: dimension for dimension, units in UNITS.items() for unit in units}

# Digits are bounded: a quantity of ours has fewer, and Decimal keeps all of these.
_QUANTITY = re.compile(r"^\s*([+\-−]?[0-9]{1,15}(?:\.[0-9]{1,12})?)\s*([^\d\s].*?)?\s*$")


class UnitError(ValueError):
    """The text is not a quantity of the wanted dimension; ``help`` says how to write it."""

    def __init__(self, message: str, help_text: str) -> None:
        super().__init__(message)
        self.help = help_text


def parse_quantity(text: str, dimension: str) -> Decimal:
    """Return the value in the base unit of ``dimension`` (W, Wh, V, A, s, 1 …).

    Raises UnitError naming the mend; a bare number for a dimensioned value is a mistake.
    """
    units = UNITS[dimension]
    example = next(iter(u for u in units if u.startswith("k")), next(iter(units)))
    found = _QUANTITY.match(text)
    if not found:
        raise UnitError(
            f"{text!r} is not a quantity", f"write a number and a unit, like `20 {example}`"
        )
    number, unit = found.groups()
    if unit is None:
        usual = USUAL.get(dimension) or tuple(units)[:3]
        options = " or ".join(f"`{number}{u}`" for u in usual)
        raise UnitError(f"{text!r} has no unit", f"write {options}")
    if unit not in units:
        near = next((u for u in units if u.lower() == unit.lower()), None)
        help_text = (
            f"write `{near}` (units are case-sensitive: {near}, not {unit})"
            if near
            else f"use one of {', '.join(units)}"
        )
        raise UnitError(f"unknown unit “{unit}”", help_text)
    try:
        return Decimal(number.replace("−", "-")) * units[unit]
    except InvalidOperation:  # pragma: no cover - the pattern admits numbers only
        raise UnitError(f"{text!r} is not a number", "write digits") from None


def parse_int(text: str, dimension: str, *, per_unit: int = 1) -> int:
    """Like parse_quantity, as a whole number of 1/``per_unit`` base units (10 for 0.1 V)."""
    value = parse_quantity(text, dimension) * per_unit
    if value != value.to_integral_value():
        raise UnitError(f"{text!r} is finer than the gateway keeps", "round it")
    return int(value)


def kw_text(p_w: int) -> str:
    """Write a power for people: ``150.0 kW``."""
    return f"{p_w / 1000:.1f} kW"


def signed_kw_text(p_w: int) -> str:
    """Write a power with its direction: ``+150.0 kW``; what rounds to zero has no sign."""
    text = f"{p_w / 1000:+.1f}"
    return "0.0 kW" if float(text) == 0 else f"{text} kW"


def kwh_text(energy_wh: int) -> str:
    """Write an energy for people: ``75.00 kWh``."""
    return f"{energy_wh / 1000:.2f} kWh"
