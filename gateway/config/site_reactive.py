"""Reactive power of a terminal in a site file: fixed, or a curve over the feeder's voltage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from typing_extensions import override

from gateway.config.shape import Quantity, Reader, Shape, described, wrong
from gateway.model.terminal import Reactive

POINTS_MAX = 16
_VOLTAGE = Quantity("voltage", 10, ("0 V", "1000 kV"))
_POWER = Quantity("reactive_power", 1, ("-1000 Mvar", "1000 Mvar"))


@dataclass(frozen=True, slots=True)
class Curve(Reader):
    """A list of points ``[voltage, reactive power]`` by rising voltage."""

    @override
    def read(self, value: Any) -> tuple[tuple[int, int], ...]:
        points = value if isinstance(value, list) else []
        if not 2 <= len(points) <= POINTS_MAX or any(
            not isinstance(p, list) or len(p) != 2 for p in points
        ):
            raise wrong(
                "kind",
                f"2 to {POINTS_MAX} points `[voltage, reactive power]` are wanted here",
                "write them by rising voltage, like `[[380 V, 60 kvar], [420 V, -60 kvar]]`",
            )
        found = tuple((_VOLTAGE.read(v), _POWER.read(q)) for v, q in points)
        if any(a[0] >= b[0] for a, b in pairwise(found)):
            raise wrong("range", "the voltages of a curve rise", "write the lowest voltage first")
        return found

    @override
    def json_schema(self) -> dict[str, Any]:
        point = {
            "type": "array",
            "prefixItems": [_VOLTAGE.json_schema(), _POWER.json_schema()],
            "minItems": 2,
            "maxItems": 2,
        }
        return {"type": "array", "items": point, "minItems": 2, "maxItems": POINTS_MAX}


class ReactiveShape(Shape):
    """Reactive power from what active power leaves of the rating; a curve goes before ``q``."""

    q: Annotated[int, _POWER] = described(
        "Fixed reactive power; positive injects and lifts the voltage",
        trust="engineer",
        default=0,
        example="20 kvar",
    )
    volt_var: Annotated[tuple[tuple[int, int], ...], Curve()] = described(
        "Reactive power by the feeder's voltage, straight lines between points",
        trust="engineer",
        default=(),
        example="[[368 V, 60 kvar], [392 V, 0 var], [408 V, 0 var], [432 V, -60 kvar]]",
    )


def reactive_of(found: ReactiveShape | None) -> Reactive | None:
    """Build what the core takes."""
    return None if found is None else Reactive(q_var=found.q, curve=found.volt_var)


def reactive_fields(reactive: Reactive | None) -> dict[str, Any] | None:
    """Write it as the effective configuration and the ledger carry it."""
    if reactive is None:
        return None
    return {"q_var": reactive.q_var, "curve": [list(point) for point in reactive.curve]}
