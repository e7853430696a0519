"""Quantities on the command line: a number with its unit, never a bare number."""

from __future__ import annotations

import re

import click

from firmware_sim.overriding import override

_PATTERN = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z%]+)")
DURATIONS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
RATIOS = {"%": 0.01}


class Quantity(click.ParamType[float]):
    """A number with a unit, converted to the base unit."""

    def __init__(self, name: str, units: dict[str, float]) -> None:
        self.name = name
        self._units = units

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse ``30s``; fail with the units that are known."""
        if isinstance(value, float):
            return value
        match = _PATTERN.fullmatch(str(value).strip())
        if match is None or match[2] not in self._units:
            self.fail(
                f"{value!r} is not a {self.name}; write a number with one of "
                f"{', '.join(self._units)}",
                param,
                ctx,
            )
        return float(match[1]) * self._units[match[2]]


DURATION = Quantity("duration", DURATIONS)
RATIO = Quantity("ratio", RATIOS)
POWER = Quantity("power", {"W": 1.0, "kW": 1e3, "MW": 1e6})
ENERGY = Quantity("energy", {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6, "GWh": 1e9})


class Speed(click.ParamType[float]):
    """How much faster than real time: ``60x`` or ``60``."""

    name = "speed"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the factor."""
        try:
            factor = float(str(value).removesuffix("x"))
        except ValueError:
            self.fail(f"{value!r} is not a speed such as 60x", param, ctx)
        if not 0.01 <= factor <= 10_000:
            self.fail(f"{value} is outside 0.01x to 10000x", param, ctx)
        return factor


SPEED = Speed()
