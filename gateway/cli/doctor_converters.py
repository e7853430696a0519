"""``sopgw doctor`` on converters with controllers of their own: who they are, may they be driven?

Only reads. Imported inside commands only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from decimal import Decimal

from gateway.cli.doctor_line import Line
from gateway.config.site_file import DeviceConfig, Site, SopConfig
from gateway.devices import sunspec
from gateway.devices.connect import Endpoints
from gateway.devices.device import ModbusDevice, PointValue
from gateway.devices.modbus.client import ModbusUnit
from gateway.devices.profile import Profile
from gateway.model.errors import DeviceError
from gateway.model.terminal import Terminal
from gateway.runtime.clock import SystemClock

TIMEOUT_S = 2.0
EXPONENT_MAX = 10  # beyond it nothing is a scale factor
STEP_RATIO_MAX = Decimal("0.01")  # of the rating: coarser set values cannot follow a schedule
RATING_PERCENT_MAX = 1  # between the device's rating and the site file's
SET_VALUES = ("p_set", "q_set")
TIMER = ("reversion", "reversion_enable", "reversion_time", "reversion_left")


def converter_lines(site: Site) -> list[Line]:
    """Look at every converter of the site's SOPs; nothing where they have stations."""
    separate = [config for config in site.sops if config.separate]
    return asyncio.run(_lines(site, separate)) if separate else []


async def _lines(site: Site, sops: list[SopConfig]) -> list[Line]:
    endpoints = Endpoints()
    lines: list[Line] = []
    async with contextlib.AsyncExitStack() as opened:
        for config in sops:
            for terminal in config.sop.terminals:
                device = site.devices[config.converters[terminal.id]]
                unit = endpoints.unit(
                    name=device.name, profile=device.profile, url=device.url, timeout_s=TIMEOUT_S
                )
                opened.push_async_callback(unit.client.close)
                try:
                    lines += await _of_one(unit, device, config, terminal)
                except DeviceError as error:
                    fix = f"sopgw device identify {device.name}"
                    id_ = f"converters.{device.name}"
                    lines.append(Line(id=id_, status="fail", text=str(error), fix=fix))
    return lines


async def _of_one(
    unit: ModbusUnit, device: DeviceConfig, config: SopConfig, terminal: Terminal
) -> list[Line]:
    profile, id_ = device.profile, f"converters.{device.name}"
    lines = [await _identity_line(unit, device, id_)]
    driver = ModbusDevice(unit=unit, unit_id=device.unit, profile=profile, clock=SystemClock())
    seen = await driver.get(_wanted(profile))
    timeout_s = config.heartbeat.device_timeout_ms / 1000
    lines += [
        _rating_line(id_, seen, terminal),
        _remote_line(id_, driver, seen),
        _reversion_line(id_, driver, seen, timeout_s=timeout_s),
        _scale_line(id_, profile, seen, terminal),
    ]
    return lines


def _wanted(profile: Profile) -> list[str]:
    """Points that are looked at, as far as the profile has them, and every scale factor."""
    there = {point.name: point for point in profile.points}
    timers = (f"{s}.{t}" for s in SET_VALUES for t in ("enable", *TIMER))
    names = [n for n in ("local", "rating.s", *SET_VALUES, *timers) if n in there]
    scales = [p.scale_point for p in profile.points if p.scale_point is not None]
    return [*names, *dict.fromkeys(scales)]


async def _identity_line(unit: ModbusUnit, device: DeviceConfig, id_: str) -> Line:
    """Whether it has the models of its profile, in their order, at the profile's addresses."""
    wanted = device.profile.identify.sunspec_models
    fix = f"sopgw device identify {device.name}; sopgw profile match {device.url}"
    chain = await sunspec.discover(unit, device.unit)
    found = tuple(m.id for m in chain.models) if chain is not None else ()
    text = "SunSpec " + ",".join(map(str, found)) if chain is not None else "no SunSpec models"
    if found[: len(wanted)] == wanted:
        return Line(id=f"{id_}.identity", status="ok", text=f"{text} at {device.url}")
    text += f", the profile is for {','.join(map(str, wanted)) or 'none'}"
    return Line(id=f"{id_}.identity", status="fail" if wanted else "warn", text=text, fix=fix)


def _rating_line(id_: str, seen: Mapping[str, PointValue], terminal: Terminal) -> Line:
    rating = _number(seen, "rating.s")
    if rating is None:
        return Line(id=f"{id_}.rating", status="unknown", text="it does not say its rating")
    text = f"{rating / 1000:g} kVA, {terminal.id} has {terminal.s_va / 1000:g} kVA"
    apart = abs(rating - terminal.s_va) * 100 > terminal.s_va * RATING_PERCENT_MAX
    return Line(
        id=f"{id_}.rating",
        status=("fail" if rating < terminal.s_va else "warn") if apart else "ok",
        text=text,
        fix=f"is this the converter of {terminal.id}? then correct its `s` in the site file",
    )


def _remote_line(id_: str, driver: ModbusDevice, seen: Mapping[str, PointValue]) -> Line:
    word = _word(driver, seen, "local")
    return Line(
        id=f"{id_}.remote",
        status={"remote": "ok", "local": "fail"}.get(word, "unknown"),
        text=word or "it does not say who may control it",
        fix="switch the converter to remote at its own panel",
    )


def _reversion_line(
    id_: str, driver: ModbusDevice, seen: Mapping[str, PointValue], *, timeout_s: float
) -> Line:
    """Whether the set power ends by itself when nobody renews it: the converter's watchdog."""
    id_ += ".reversion"
    lacking = [f"p_set.{name}" for name in TIMER if f"p_set.{name}" not in driver.codecs]
    if lacking:
        text = f"the profile has no {', '.join(lacking)}"
        return Line(id=id_, status="fail", text=text, fix="name the timer in the profile")
    time_s, left_s = _number(seen, "p_set.reversion_time"), _number(seen, "p_set.reversion_left")
    armed = _word(driver, seen, "p_set.reversion_enable") == "enabled" and bool(time_s)
    held_w = _number(seen, "p_set") if _word(driver, seen, "p_set.enable") == "enabled" else 0
    falls_to_w = _number(seen, "p_set.reversion")
    if held_w and (not armed or falls_to_w != 0):
        return Line(
            id=id_,
            status="fail",
            text=f"it holds {held_w:.0f} W and would go on without anybody",
            fix="sopgw stop, or stop it at its own panel",
        )
    if not armed:
        text = "not armed now; the gateway arms it before it sets power"
        return Line(id=id_, status="ok", text=text)
    text = f"armed: {falls_to_w or 0:.0f} W after {time_s:.0f} s, {left_s or 0:.0f} s left"
    late = (time_s or 0) > timeout_s + 1  # it counts whole seconds
    return Line(
        id=id_,
        status="warn" if late else "ok",
        text=text + (f"; the site says {timeout_s:g} s" if late else ""),
        fix="the gateway sets heartbeat.device_timeout when it takes control",
    )


def _scale_line(
    id_: str, profile: Profile, seen: Mapping[str, PointValue], terminal: Terminal
) -> Line:
    """Whether every factor is one, and set values are fine enough for the rating."""
    id_ += ".scale"
    points = {p.name: p for p in profile.points}
    factors = dict.fromkeys(p.scale_point for p in profile.points if p.scale_point is not None)
    fix = "read them with `sopgw point get --raw`; the addresses of the profile may not be its own"
    wrong = [
        name for name in factors if (n := _number(seen, name)) is None or abs(n) > EXPONENT_MAX
    ]
    if wrong:
        said = ", ".join(f"{name} {seen[name].value}" for name in wrong)
        return Line(id=id_, status="fail", text=f"no scale factors: {said}", fix=fix)
    steps = {}
    for name in SET_VALUES:
        if name in points:
            scale = points[name].scale_point
            exponent = _number(seen, scale) if scale is not None else 0
            steps[name] = points[name].scale * Decimal(10) ** int(exponent or 0)
    coarse = any(step > STEP_RATIO_MAX * terminal.s_va for step in steps.values())
    said = ", ".join(
        f"{n} in steps of {step.normalize():f} {points[n].unit}" for n, step in steps.items()
    )
    return Line(
        id=id_,
        status="warn" if coarse else "ok",
        text=f"{len(factors)} factors; {said}" + (": too coarse for its rating" if coarse else ""),
        fix=fix,
    )


def _number(seen: Mapping[str, PointValue], name: str) -> int | float | None:
    value = seen[name].value if name in seen else None
    return value if isinstance(value, int | float) else None


def _word(driver: ModbusDevice, seen: Mapping[str, PointValue], name: str) -> str:
    """What the device says in the profile's word; empty where it says nothing."""
    return driver.codecs[name].label(seen[name].value) if name in seen else ""
