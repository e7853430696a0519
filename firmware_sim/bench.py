"""A whole soft open point behind its faces: station, terminals, and a meter at each terminal."""

from __future__ import annotations

import random  # noqa: TID251 (seeded instances only)
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from firmware_sim.claims import Undo
from firmware_sim.device import Server, SimulatedDevice
from firmware_sim.disturbances import BranchSwitch, disturb_station
from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.registers import Unit
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.station_map import StationMap
from firmware_sim.faces.sunspec_map import SunSpecMap
from firmware_sim.meter_device import meter_unit
from firmware_sim.overriding import override
from firmware_sim.plant.dynamics import Dynamics
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.meter import Meter
from firmware_sim.plant.ratings import DeviceSpec
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import ENERGISED, Event, OpState
from firmware_sim.timebase import SimClock
from firmware_sim.trace import Trace

STATION_UNIT: Final = 100
# A stall of the host must never look like a fault of the link.
REAL_LIMIT_MIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a device is started."""

    seed: int = 1
    state: str = "standby"
    master_index: int = 0
    bias_ratio_max: float = 0.01
    noise_ratio: float = 0.002
    start_energy_wh: float = 1_000_000.0
    meter_kind: str = "iem3255"
    meter_error_ratio_max: float = 0.0


class SopDevice(SimulatedDevice):
    """One soft open point with its terminal meters, reachable by Modbus TCP."""

    def __init__(self, spec: DeviceSpec, clock: SimClock, options: Options) -> None:
        super().__init__(clock)
        self.sop = Sop(
            spec,
            seed=options.seed,
            bias_ratio_max=options.bias_ratio_max,
            noise_ratio=options.noise_ratio,
            state=options.state,
            master_index=options.master_index,
        )
        factor = clock.base.factor
        self._floor_us = int(REAL_LIMIT_MIN_S * 1e6 * factor) if factor > 1.0 else 0
        self.firmware = Firmware(self.sop, limit_floor_us=self._floor_us)
        draw = random.Random(options.seed ^ 0x5EED)  # noqa: S311 (a simulation)
        self.meters = [
            Meter(
                converter,
                serial_id=draw.randrange(10_000_000, 99_999_999),
                start_import_wh=draw.random() * options.start_energy_wh,
                start_export_wh=draw.random() * options.start_energy_wh,
                gain_ratio=1.0 + draw.uniform(-1.0, 1.0) * options.meter_error_ratio_max,
            )
            for converter in self.sop.converters
        ]
        self.terminal_maps = [
            SunSpecMap(
                self.sop,
                lambda: self.firmware,
                index,
                serial=f"SIM-{options.seed}-{index + 1}",
                now_us=self.now_us,
            )
            for index in range(self.sop.n)
        ]
        self.station_map = StationMap(
            self.sop, lambda: self.firmware, now_us=self.now_us, utc_us=clock.utc_us
        )
        units: dict[int, Unit] = dict(enumerate(self.terminal_maps, 1))
        units[STATION_UNIT] = self.station_map
        self.responder = Responder(units, refresh=self.advance, settle=self.settle)
        self.station = ModbusTcpServer(self.responder)
        self.meter_servers = [
            ModbusTcpServer(Responder({1: unit}, refresh=self.advance))
            for unit in (
                meter_unit(options.meter_kind, meter, self, rated=rated)
                for meter, rated in zip(self.meters, spec.terminals, strict=True)
            )
        ]
        self.trace: Trace | None = None
        self.bad_quality = False
        self.bomb_size = 0
        # With the fast model each step is made of many small ones.
        self.dynamics: Dynamics | None = None
        # The feeders' power flow, told the second of the simulated day after each step.
        self.couple: Callable[[float], None] | None = None
        self.switch_branch: BranchSwitch | None = None
        self.feeders: Callable[[float], Mapping[str, Any]] | None = None

    # ------------------------------------------------------------------- time

    @override
    def step(self, dt_us: int) -> None:
        """Advance the physics by one step."""
        sop, dt_s = self.sop, dt_us * 1e-6
        sop.close_balance()
        for meter in self.meters:
            meter.count(dt_s)
        if self.dynamics is None:
            sop.step(dt_us)
        else:
            self.dynamics.run(dt_us)
        self.firmware.tick(sop.t_us)
        for terminal in self.terminal_maps:
            terminal.tick(sop.t_us)
        if self.couple is not None:
            self.couple(self.day_s())
        if self.trace is not None:
            self.trace.sample()

    @override
    def settle(self) -> None:
        """Bring the physics to this very instant; the fast model knows only whole steps."""
        if self.dynamics is None:
            super().settle()
        else:
            self.advance()

    # ------------------------------------------------------------------- life

    @override
    async def start(self, port: int) -> Mapping[str, Any]:
        """Open the ports and say which."""
        station = await self.station.start(port)
        meters = [
            await server.start(0 if port == 0 else port + k)
            for k, server in enumerate(self.meter_servers, 1)
        ]
        return {"station": station, "meters": meters}

    @override
    def servers(self, target: str = "all") -> list[Server]:
        """Servers by name; the further faces of the station go with its first one."""
        if target == "station":
            return [self.station, *self.faces]
        if target == "meters":
            return list(self.meter_servers)
        if target == "all":
            return [self.station, *self.faces, *self.meter_servers]
        return [self.meter_servers[self.meter_index(target)]]

    def meter_index(self, target: str) -> int:
        """Index of the meter called ``m1`` and so on."""
        number = target.removeprefix("m")
        if target.startswith("m") and number.isdigit() and 1 <= int(number) <= self.sop.n:
            return int(number) - 1
        raise ValueError(f"no such target {target!r}; station, meters, m1 … m{self.sop.n}, all")

    def reboot(self, *, remembering: bool = False) -> None:
        """Power-cycle the station: set values and lease are gone, counters stay, no auto-start.

        A pressed emergency stop and a lockout outlast it: only somebody on site releases them.
        ``remembering`` makes it a bad device that comes back at its old set values.
        """
        sop, old = self.sop, self.firmware
        before = [(c.state, c.goal_p_w, c.goal_q_var) for c in sop.converters]
        was_running = any(c.modulating for c in sop.converters)
        for server in self.servers("station"):
            server.drop_connections()
        sop.power_cycle(remembering=remembering)
        self.firmware = Firmware(sop, limit_floor_us=self._floor_us)
        self.firmware.booted_us = self.now_us()
        # A switch on its panel, and a fault that still lasts.
        self.firmware.local, self.firmware.watchdog_disabled = old.local, old.watchdog_disabled
        if remembering and was_running:
            for converter, (state, p_w, q_var) in zip(sop.converters, before, strict=True):
                if state in ENERGISED:
                    converter.state = OpState.RUN
                    converter.accept(round(p_w), round(q_var))
        sop.close_balance()

    def estop(self) -> None:
        """The hard-wired emergency stop of the device."""
        for index in range(self.sop.n):
            self.sop.raise_event(index, Event.ESTOP)
        self.firmware.drop_setpoints()

    def release_estop(self) -> None:
        """Local release and reset after an emergency stop."""
        for index, converter in enumerate(self.sop.converters):
            if converter.state is OpState.ESTOP:
                self.sop.reset(index, local=True)

    @override
    def note(self, what: str) -> None:
        """Remember an event."""
        self.sop.note(what)

    @override
    def disturb(self, fault: str, order: Mapping[str, Any]) -> Undo | None:
        """Start a fault inside the device."""
        undo = disturb_station(self, fault, order)
        self.sop.close_balance()
        return undo

    @override
    def recover(self) -> None:
        """Take back what lasts; an emergency stop is released and reset, whoever gave it."""
        self.claims.release()
        self.release_estop()

    # ------------------------------------------------------------------- truth

    @override
    def truth(self) -> Mapping[str, Any]:
        """The true state, for testers."""
        self.advance()
        sop, firmware, now_us, ahead_s = self.sop, self.firmware, self.now_us(), self.ahead_s()
        terminals = [
            {
                "state": c.state.name,
                "mode": c.mode.name,
                "p_w": round(c.p_w, 1),
                "q_var": round(c.q_var, 1),
                "p_set_w": round(c.p_set_w),
                "p_set_received_w": c.p_set_rx_w,
                "bias_ratio": c.bias_ratio,
                "faults": int(c.faults),
                "injected_wh": c.injected_wh,
                "absorbed_wh": c.absorbed_wh,
            }
            for c in sop.converters
        ]
        meters = [
            {"import_wh": m.import_wh(ahead_s), "export_wh": m.export_wh(ahead_s), "p_w": m.p_w()}
            for m in self.meters
        ]
        counters = firmware.counters
        return {
            "t_us": sop.t_us,
            "utc_us": self.clock.utc_us(),
            "state": sop.station_state().name,
            "master": sop.master_index + 1,
            "v_dc_v": sop.v_dc_measured_v,
            "loss_w": sop.loss_w,
            "loss_wh": sop.loss_wh,
            "local": firmware.local,
            "comm_fault": firmware.comm_fault,
            "failsafe": firmware.failsafe_active,
            "lease_owner": firmware.lease_owner_id,
            "leased": firmware.leased(now_us),
            "watchdog_remaining_us": firmware.watchdog_remaining_us(now_us),
            "ack_seq": firmware.ack_seq,
            "ack_code": firmware.ack_code.name,
            "active_instr_id": firmware.active_id,
            "operated_instr_ids": counters.operated_id[-1000:],
            "selects": counters.select_count,
            "operates": counters.operate_count,
            "rejected": counters.rejected_count,
            "heartbeats": counters.heartbeat_count,
            "direct_writes": counters.direct_count,
            "writes": self.station_map.write_count + sum(m.write_count for m in self.terminal_maps),
            "requests": self.responder.request_count,
            "feeders": self.feeders(self.day_s()) if self.feeders is not None else None,
            "terminals": terminals,
            "meters": meters,
            "events": [{"t_us": t_us, "what": what} for t_us, what in sop.events[-100:]],
        }
