"""Faults inside a station and its meters, by name; what happens on the wire is in ``control``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from firmware_sim.claims import Claims, Undo, together
from firmware_sim.meter_device import disturb_meter
from firmware_sim.orders import read_order
from firmware_sim.plant.converter import Converter, Fault
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.meter import Meter
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import OpState
from firmware_sim.timebase import SimClock


class BranchSwitch(Protocol):
    """Opens and closes a branch of the feeders."""

    def __call__(self, branch: str, *, closed: bool) -> None:
        """Open or close the branch of this name."""


class Station(Protocol):
    """What can be disturbed: the station of a soft open point and its meters."""

    sop: Sop
    firmware: Firmware
    clock: SimClock
    meters: list[Meter]
    claims: Claims
    bad_quality: bool
    bomb_size: int
    switch_branch: BranchSwitch | None

    def estop(self) -> None:
        """The hard-wired emergency stop."""

    def release_estop(self) -> None:
        """Local release and reset."""

    def reboot(self, *, remembering: bool = False) -> None:
        """Power cycle."""

    def meter_index(self, target: str, /) -> int:
        """Index of a meter by its name."""
        ...


def disturb_station(device: Station, fault: str, order: Mapping[str, Any]) -> Undo | None:
    """Start one fault inside the station; what lasts comes with its way back."""
    given = read_order(fault, order, terminals_count=device.sop.n)
    sop, index = device.sop, (given.get("terminal") or 1) - 1
    match fault:
        case "master_trip":
            sop.trip(sop.master_index, Fault.INTERNAL)
        case "trip":
            sop.trip(index, Fault(given["bits"]))
        case "reboot":
            device.reboot(remembering=given["remembering"])
        case "derate":
            return _derate(device, given)
        case "feeder":
            return _feeder(device, index, given)
        case "branch_out":
            return _branch_out(device, given["branch"])
        case "clip" | "stuck" | "breaker_stuck":
            return _terminal(device, fault, index, given)
        case _ if fault in _SWITCHED:
            return _switched(device, fault, given)
        case _:
            meter = device.meters[device.meter_index(str(order.get("target", "m1")))]
            return disturb_meter(device.claims, meter, fault, order)
    return None


_SWITCHED = (
    "local", "estop", "watchdog_disabled", "door", "fan", "bad_quality", "opcua_bomb", "clock_step",
)  # fmt: skip


def _switched(device: Station, fault: str, given: Mapping[str, Any]) -> Undo:
    """What the whole station has or has not."""
    value: Any = True
    rest: Any = False
    put: Callable[[Any], object]
    match fault:
        case "estop":
            put = partial(_press, device)
        case "local" | "watchdog_disabled":
            put = partial(_order_firmware, device, fault)
        case "door":
            put = partial(setattr, device.sop, "door_open")
        case "fan":
            put = partial(setattr, device.sop, "fan_failed")
        case "bad_quality":
            put = partial(setattr, device, "bad_quality")
        case "opcua_bomb":
            value, rest, put = given["size"], 0, partial(setattr, device, "bomb_size")
        case _:
            value, rest, put = int(given["step_s"] * 1e6), 0, device.clock.step_utc
    return device.claims.hold((fault,), value, rest=rest, put=put)


def _press(device: Station, pressed: bool) -> None:  # noqa: FBT001 (put by a claim)
    (device.estop if pressed else device.release_estop)()


def _order_firmware(device: Station, name: str, on: bool) -> None:  # noqa: FBT001 (put by a claim)
    # A restart gives the station another controller: the one of now is meant.
    setattr(device.firmware, name, on)


def _terminal(device: Station, fault: str, index: int, given: Mapping[str, Any]) -> Undo:
    """What one terminal has or has not."""
    converter, stuck = device.sop.converters[index], device.sop.breaker_stuck
    value: Any = True
    rest: Any = False
    put: Callable[[Any], object]
    match fault:
        case "clip":
            # Set values beyond a limit are cut without LIM_REASON: the echo is the only witness.
            value, rest, put = given["limit_w"], None, partial(setattr, converter, "clip_w")
        case "stuck":
            # Set values are taken and echoed, but the power no longer follows.
            put = partial(setattr, converter, "stuck")
        case _:
            put = lambda on: (stuck.add if on else stuck.discard)(index)  # noqa: E731
    return device.claims.hold((fault, index), value, rest=rest, put=put)


def _branch_out(device: Station, branch: str) -> Undo:
    switch = device.switch_branch
    if switch is None:
        raise ValueError("the device has no feeders; start it with a grid")
    return device.claims.hold(
        ("branch", branch), False, rest=True,  # noqa: FBT003 (the value of a claim)
        put=lambda closed: switch(branch, closed=closed),
    )  # fmt: skip


def _derate(device: Station, given: Mapping[str, Any]) -> Undo:
    only = given["terminal"]
    chosen = device.sop.converters if only is None else [device.sop.converters[only - 1]]
    return together(*(_derate_one(device, converter, given["ratio"]) for converter in chosen))


def _derate_one(device: Station, converter: Converter, ratio: float) -> Undo:
    def put(value: float) -> None:
        converter.derate_ratio = value
        if converter.state in (OpState.RUN, OpState.DERATED):
            converter.apply_limits()

    return device.claims.hold(("derate", converter), ratio, rest=converter.derate_ratio, put=put)


def _feeder(device: Station, index: int, given: Mapping[str, Any]) -> Undo:
    """Another voltage or frequency on the feeder; 0 V is a dead one."""
    converter = device.sop.converters[index]
    nominal_v, load_w = converter.rated.v_ac_nominal_v, converter.island_load_w

    def put(value: tuple[float, float, float, bool]) -> None:
        converter.feeder_v_v, converter.f_hz, converter.island_load_w, held = value
        converter.feeder_held = held

    v_v = nominal_v if given["v_v"] is None else given["v_v"]
    wanted_w = load_w if given["load_w"] is None else given["load_w"]
    return device.claims.hold(
        ("feeder", index), (v_v, given["f_hz"], wanted_w, True),
        rest=(nominal_v, 50.0, load_w, False), put=put,
    )  # fmt: skip
