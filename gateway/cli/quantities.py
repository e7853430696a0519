"""Quantities on the command line: a number and its unit, never a bare number."""

from __future__ import annotations

from typing import Any

import click

from gateway.cli.overriding import override
from gateway.model.units import UnitError, parse_int, parse_quantity


class _Quantity(click.ParamType[int]):
    """Turns ``25kW`` into whole base units; ``per_unit`` of them in one."""

    def __init__(self, dimension: str, *, per_unit: int = 1, name: str = "") -> None:
        self.dimension = dimension
        self.per_unit = per_unit
        self.name = name or dimension

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_int(str(value), self.dimension, per_unit=self.per_unit)
        except UnitError as wrong:
            self.fail(f"{wrong}: {wrong.help}", param, ctx)


class _Ratios(click.ParamType[tuple[float, ...]]):
    """Turns ``30%,60%`` into a tuple of ratios."""

    name = "ratios"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(parse_quantity(t, "ratio")) for t in str(value).split(","))
        except UnitError as wrong:
            self.fail(f"{wrong}: {wrong.help}", param, ctx)


POWER = _Quantity("power", name="power")
DURATION_MS = _Quantity("time", per_unit=1000, name="duration")
RATIOS = _Ratios()


class Reference(click.ParamType[tuple[str, float, float]]):
    """Turns ``v1=231.2V±0.1V`` into (point, value, tolerance) in base units."""

    name = "reference"

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float, float]:
        if isinstance(value, tuple):
            return value
        point, equals, rest = str(value).partition("=")
        number, plusminus, tolerance = rest.partition("±")
        if not (point and equals and plusminus):
            self.fail(f"“{value}”: write POINT=VALUE±TOLERANCE, like v1=231.2V±0.1V", param, ctx)
        try:
            return point, _any(number), _any(tolerance)
        except UnitError as wrong:
            self.fail(f"{wrong}: {wrong.help}", param, ctx)


def _any(text: str) -> float:
    """Read a quantity of whatever dimension its unit has."""
    from gateway.model.units import DIMENSION_OF

    unit = text.strip().lstrip("+-−0123456789. ")
    return float(parse_quantity(text, DIMENSION_OF.get(unit, "ratio")))
