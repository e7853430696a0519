"""What an order to commit a fault may carry, read in full before anything happens.

An order that is wrong in any key changes nothing: a tester must never meet a fault that is in
force although it was refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from firmware_sim.plant.converter import Fault
from firmware_sim.plant.meter import arrangements

ARRANGEMENTS_COUNT: Final = len(arrangements())
FOR_S_MAX: Final = 1e9  # thirty years; longer is meant as for ever and written by leaving it out
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")


def number(value: Any) -> float:
    """A finite number in the unit its key names; text is taken as the command line gives it."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number; its unit stands in the key") from None
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is no finite number")
    return found


def not_below_zero(value: Any) -> float:
    """A number of 0 or more."""
    found = number(value)
    if found < 0.0:
        raise ValueError(f"{value!r} is below 0")
    return found


def whole(value: Any) -> int:
    """A whole number."""
    found = number(value)
    if found != int(found):
        raise ValueError(f"{value!r} is no whole number")
    return int(found)


def between(low: int, high: int) -> Callable[[Any], int]:
    """A whole number within limits."""

    def read(value: Any) -> int:
        found = whole(value)
        if not low <= found <= high:
            raise ValueError(f"{value!r} is not {low} to {high}")
        return found

    return read


def truth(value: Any) -> bool:
    """Yes or no; ``false`` from a command line is no."""
    if isinstance(value, bool):
        return value
    said = str(value).lower()
    if said not in (*_YES, *_NO):
        raise ValueError(f"{value!r} is neither true nor false")
    return said in _YES


@dataclass(frozen=True, slots=True)
class Setting:
    """How one key is read; without a default it must be there."""

    read: Callable[[Any], Any]
    default: Any = ...


_TERMINAL = Setting(whole)
SETTINGS: Final[dict[str, dict[str, Setting]]] = {
    "trip": {"terminal": _TERMINAL, "bits": Setting(between(1, 0xFFFF), int(Fault.INTERNAL))},
    "reboot": {"remembering": Setting(truth, default=False)},
    "breaker_stuck": {"terminal": _TERMINAL},
    "derate": {"terminal": Setting(whole, None), "ratio": Setting(not_below_zero, 0.5)},
    "clip": {"terminal": _TERMINAL, "limit_w": Setting(not_below_zero)},
    "stuck": {"terminal": _TERMINAL},
    "feeder": {
        "terminal": _TERMINAL, "v_v": Setting(not_below_zero, None),
        "f_hz": Setting(not_below_zero, 50.0), "load_w": Setting(number, None),
    },
    "branch_out": {"branch": Setting(str)},
    "opcua_bomb": {"size": Setting(between(0, 1 << 31), 1_000_000)},
    "clock_step": {"step_s": Setting(number, 2.0)},
    "meter_exchange": {
        "serial": Setting(whole, None), "import_wh": Setting(number, 0.0),
        "export_wh": Setting(number, 0.0),
    },
    "meter_counters": {"import_wh": Setting(number), "export_wh": Setting(number)},
    "wiring": {"arrangement": Setting(between(0, ARRANGEMENTS_COUNT - 1))},
    "load": {"p_w": Setting(number)},
    "delay": {"delay_s": Setting(not_below_zero, 0.3)},
    "exception": {"code": Setting(between(1, 255), 6)},
    "rtu_noise": {"ratio": Setting(not_below_zero, 1e-4)},
}  # fmt: skip


def read_order(fault: str, order: Mapping[str, Any], *, terminals_count: int = 0) -> dict[str, Any]:
    """The settings of a fault, typed and with their defaults; ValueError names what is wrong."""
    found: dict[str, Any] = {}
    for key, setting in SETTINGS.get(fault, {}).items():
        if key not in order:
            if setting.default is ...:
                raise ValueError(f"{fault}: {key} is missing")
            found[key] = setting.default
            continue
        try:
            found[key] = setting.read(order[key])
        except ValueError as wrong:
            raise ValueError(f"{key}: {wrong}") from None
        if key == "terminal" and not 1 <= found[key] <= terminals_count:
            raise ValueError(f"terminal: {order[key]!r} is not 1 to {terminals_count}")
    return found


def lasting_s(order: Mapping[str, Any]) -> float | None:
    """How long the fault lasts in simulated seconds; None: until it is cleared."""
    if order.get("for_s") is None:
        return None
    try:
        found = not_below_zero(order["for_s"])
    except ValueError as wrong:
        raise ValueError(f"for_s: {wrong}") from None
    if found > FOR_S_MAX:
        raise ValueError(f"for_s: {order['for_s']!r} is too long; leave it out")
    return found
