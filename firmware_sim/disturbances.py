"""Faults inside a station and its meters, by name; what happens on the wire is in ``control``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from firmware_sim.meter_device import disturb_meter
from firmware_sim.plant.converter import Fault
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.meter import Meter
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import OpState
from firmware_sim.timebase import SimClock

Undo = Callable[[], None]


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
    """Start one fault inside the station."""
    sop, firmware = device.sop, device.firmware
    match fault:
        case "local":
            firmware.local = True
            return lambda: setattr(device.firmware, "local", False)
        case "estop":
            device.estop()
            return device.release_estop
        case "master_trip":
            sop.trip(sop.master_index, Fault.INTERNAL)
        case "trip":
            sop.trip(int(order["terminal"]) - 1, Fault(int(order.get("bits", Fault.INTERNAL))))
        case "reboot":
            device.reboot(remembering=bool(order.get("remembering", False)))
        case "watchdog_disabled":
            firmware.watchdog_disabled = True
            return lambda: setattr(device.firmware, "watchdog_disabled", False)
        case "door":
            sop.door_open = True
            return lambda: setattr(sop, "door_open", False)
        case "fan":
            sop.fan_failed = True
            return lambda: setattr(sop, "fan_failed", False)
        case "breaker_stuck":
            index = int(order["terminal"]) - 1
            sop.breaker_stuck.add(index)
            return lambda: sop.breaker_stuck.discard(index)
        case "derate":
            return _derate(device, float(order.get("ratio", 0.5)), order)
        case "clip":
            return _clip(device, int(order["terminal"]) - 1, float(order["limit_w"]))
        case "stuck":
            return _stuck(device, int(order["terminal"]) - 1)
        case "feeder":
            return _feeder(device, order)
        case "bad_quality":
            device.bad_quality = True
            return lambda: setattr(device, "bad_quality", False)
        case "branch_out":
            branch = str(order["branch"])
            if device.switch_branch is None:
                raise ValueError("the device has no feeders; start it with a grid")
            switch = device.switch_branch
            switch(branch, closed=False)
            return lambda: switch(branch, closed=True)
        case "opcua_bomb":
            device.bomb_size = int(order.get("size", 1_000_000))
            return lambda: setattr(device, "bomb_size", 0)
        case "clock_step":
            device.clock.step_utc(int(float(order.get("step_s", 2.0)) * 1e6))
            return lambda: device.clock.step_utc(0)
        case _:
            _on_meter(device, fault, order)
    return None


def _on_meter(device: Station, fault: str, order: Mapping[str, Any]) -> None:
    index = device.meter_index(str(order.get("target", "m1")))
    if not disturb_meter(device.meters[index], fault, order):
        raise ValueError(f"no such fault {fault!r} for a station")


def _derate(device: Station, ratio: float, order: Mapping[str, Any]) -> Undo:
    sop = device.sop
    only = order.get("terminal")
    chosen = sop.converters if only is None else [sop.converters[int(only) - 1]]

    def put(value: float) -> None:
        for converter in chosen:
            converter.derate_ratio = value
            if converter.state in (OpState.RUN, OpState.DERATED):
                converter.apply_limits()

    put(ratio)
    return lambda: put(1.0)


def _stuck(device: Station, index: int) -> Undo:
    """Setpoints are taken and echoed, but the power no longer follows."""
    converter = device.sop.converters[index]
    converter.stuck = True
    return lambda: setattr(converter, "stuck", False)


def _clip(device: Station, index: int, limit_w: float) -> Undo:
    """Set values beyond a limit are cut without LIM_REASON: the echo is the only witness."""
    converter = device.sop.converters[index]
    converter.clip_w = limit_w
    return lambda: setattr(converter, "clip_w", None)


def _feeder(device: Station, order: Mapping[str, Any]) -> Undo:
    """Another voltage or frequency on the feeder; 0 V is a dead one."""
    converter = device.sop.converters[int(order["terminal"]) - 1]
    converter.feeder_v_v = float(order.get("v_v", converter.rated.v_ac_nominal_v))
    converter.f_hz = float(order.get("f_hz", 50.0))
    converter.feeder_held = True
    if "load_w" in order:
        converter.island_load_w = float(order["load_w"])

    def restore() -> None:
        converter.feeder_v_v = converter.rated.v_ac_nominal_v
        converter.f_hz = 50.0
        converter.feeder_held = False

    return restore
