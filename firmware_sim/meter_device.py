"""A meter of its own, behind a simulated load with photovoltaics: the prosumer's connection."""

from __future__ import annotations

import math
import random  # noqa: TID251 (seeded instances only)
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firmware_sim.claims import Claims, Undo
from firmware_sim.device import Server, SimulatedDevice
from firmware_sim.faces.meter_maps import MODELS, MeterMap
from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.registers import Unit
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.sunspec_meter import SunSpecMeter
from firmware_sim.orders import read_order
from firmware_sim.overriding import override
from firmware_sim.plant.meter import Meter, Wiring, arrangements
from firmware_sim.plant.ratings import Ratings
from firmware_sim.timebase import SimClock

SUNSPEC_KINDS = {"sunspec203": 203, "sunspec213": 213}
METER_KINDS = (*MODELS, *SUNSPEC_KINDS)
DAY_S = 86_400


def meter_unit(
    kind: str, meter: Meter, device: SimulatedDevice, *, rated: Ratings | None = None
) -> Unit:
    """The Modbus unit of one make of meter; ``rated`` is what it is meant to measure."""
    if kind in SUNSPEC_KINDS:
        return SunSpecMeter(SUNSPEC_KINDS[kind], meter, ahead_s=device.ahead_s, rated=rated)
    return MeterMap(MODELS[kind], meter, ahead_s=device.ahead_s)


@dataclass(slots=True, kw_only=True)
class Household:
    """A load with photovoltaics; power positive towards the feeder."""

    load_w: float
    pv_w: float
    v_ac_v: float = 400.0
    f_hz: float = 50.0
    p_w: float = 0.0
    q_var: float = 0.0

    def at(self, utc_s: float, noise_ratio: float) -> None:
        """Take the power of an instant: the load, and a half sine of sun from 6 to 18 h."""
        hour_rad = (utc_s % DAY_S) / DAY_S * 2.0 * math.pi
        sun = max(0.0, -math.cos(hour_rad))
        self.p_w = self.pv_w * sun - self.load_w * (1.0 + noise_ratio)
        self.q_var = -0.2 * self.load_w


class MeterDevice(SimulatedDevice):
    """One meter on its own port."""

    def __init__(
        self,
        kind: str,
        clock: SimClock,
        *,
        seed: int = 1,
        load_w: float = 3000.0,
        pv_w: float = 0.0,
        start_import_wh: float | None = None,
        gain_ratio: float = 1.0,
        wiring: Wiring | None = None,
        unit_id: int = 1,
    ) -> None:
        super().__init__(clock)
        self._rng = random.Random(seed)  # noqa: S311 (a simulation)
        self.household = Household(load_w=load_w, pv_w=pv_w)
        self.household.at(clock.utc_us() * 1e-6, 0.0)
        start_wh = self._rng.random() * 1e6 if start_import_wh is None else start_import_wh
        self.meter = Meter(
            self.household,
            serial_id=self._rng.randrange(10_000_000, 99_999_999),
            start_import_wh=start_wh,
            start_export_wh=start_wh / 3.0,
            gain_ratio=gain_ratio,
            wiring=wiring,
        )
        self.kind = kind
        self.units: dict[int, Unit] = {unit_id: meter_unit(kind, self.meter, self)}
        self.responder = Responder(self.units, refresh=self.advance)
        self._server = ModbusTcpServer(self.responder)
        self.events: list[str] = []

    @override
    def step(self, dt_us: int) -> None:
        """Advance the physics by one step."""
        self.meter.count(dt_us * 1e-6)
        noise = 0.02 * (2.0 * self._rng.random() - 1.0)
        self.household.at(self.day_s(), noise)

    @override
    async def start(self, port: int) -> Mapping[str, Any]:
        """Open the ports and say which."""
        return {"meter": await self._server.start(port)}

    @override
    def servers(self, target: str = "all") -> list[Server]:  # noqa: ARG002
        """Servers by name."""
        return [self._server, *self.faces]

    @override
    def truth(self) -> Mapping[str, Any]:
        """The true state, for testers."""
        self.advance()
        ahead_s = self.ahead_s()
        return {
            "t_us": self.t_us,
            "utc_us": self.clock.utc_us(),
            "serial": self.meter.serial_id,
            "import_wh": self.meter.import_wh(ahead_s),
            "export_wh": self.meter.export_wh(ahead_s),
            "p_w": self.meter.p_w(),
            "events": self.events[-100:],
        }

    @override
    def note(self, what: str) -> None:
        """Remember an event."""
        self.events.append(what)

    @override
    def disturb(self, fault: str, order: Mapping[str, Any]) -> Undo | None:
        """Start a fault inside the device."""
        household = self.household
        if fault != "load":
            return disturb_meter(self.claims, self.meter, fault, order)
        return self.claims.hold(
            ("load",), read_order(fault, order)["p_w"], rest=household.load_w,
            put=lambda load_w: setattr(household, "load_w", load_w),
        )  # fmt: skip

    @override
    def recover(self) -> None:
        """Take the faults back."""
        self.claims.release()


def disturb_meter(
    claims: Claims, meter: Meter, fault: str, order: Mapping[str, Any]
) -> Undo | None:
    """Faults of meters: lost counters, another meter, wrong wiring, a jump of the counters."""
    given = read_order(fault, order)
    match fault:
        case "meter_reset":
            meter.reset()
        case "meter_exchange":
            serial = meter.serial_id + 1 if given["serial"] is None else given["serial"]
            meter.exchange(serial, given["import_wh"], given["export_wh"])
        case "meter_counters":
            meter.set_counters(given["import_wh"], given["export_wh"])
        case "wiring":
            return claims.hold(
                ("wiring", meter), arrangements()[given["arrangement"]], rest=meter.wiring,
                put=lambda wiring: setattr(meter, "wiring", wiring),
            )  # fmt: skip
        case _:
            raise ValueError(f"no such fault {fault!r} here")
    return None
