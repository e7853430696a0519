"""Register map ``sop-station-v1`` of the station controller (unit 100), as its manual prints it.

Holding (FC03/06/16/23): 0 CMD_SEQ, 1 CMD_CODE, 2 CMD_ARG, 3 CMD_CRC, 4 HB_CTRL, 5 WDG_TMO 0.1 s,
6 FAILSAFE, 7 FS_RAMP 0.1 %/s, 8-9 INSTR_ID, 10 SP_TTL s, 11 LEASE_OWNER, 12-19 reserved,
20+12j staged setpoints (P i32, Q i32, MODE, RAMP, VDC_SET, FALLBACK_P i32, DROOP, 2 spare).
Input (FC04): 1000 station, 1100+40j terminals. 32- and 64-bit values, high word first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from firmware_sim.faces.registers import (
    DEVICE_FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusalError,
    Table,
    i32,
    u16,
    u64,
)
from firmware_sim.plant.converter import DERATE_FROM_CELSIUS, Converter, Fault
from firmware_sim.plant.firmware import WATCHDOG_RANGE_DS, Failsafe, Firmware, Request
from firmware_sim.plant.setpoints import BLOCK_LENGTH
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import OpState

COMMAND_LENGTH = 12
STAGED_AT = 20
STATION_AT = 1000
STATION_LENGTH = 40
TERMINALS_AT = 1100
TERMINAL_STRIDE = 40
FIRMWARE_VERSION = 0x0103
AT_SETPOINT_RATIO = 0.01
FAILSAFES = frozenset(int(f) for f in Failsafe)


class StationMap:
    """The station controller's unit."""

    identity = ("sop-gateway bench", "SOP-STATION", "1.3")

    def __init__(
        self,
        sop: Sop,
        firmware: Callable[[], Firmware],
        *,
        now_us: Callable[[], int],
        utc_us: Callable[[], int],
    ) -> None:
        self._sop = sop
        self._firmware = firmware
        self._now_us = now_us
        self._utc_us = utc_us
        n = sop.n
        self._staged_end = STAGED_AT + BLOCK_LENGTH * n
        self._terminals_end = TERMINALS_AT + TERMINAL_STRIDE * n
        self._command = [0] * COMMAND_LENGTH
        # First registers of 32-bit values: a write may not cut through one.
        self._wide = {8} | {STAGED_AT + BLOCK_LENGTH * j + k for j in range(n) for k in (0, 2, 7)}
        self.write_count = 0

    # ------------------------------------------------------------------- read

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Holding registers 0 to the staged block's end, input registers 1000 and 1100 on."""
        end = address + count
        if table is Table.HOLDING:
            if end > self._staged_end:
                raise ModbusRefusalError(ILLEGAL_ADDRESS)
            return self._holding()[address:end]
        if address >= STATION_AT and end <= STATION_AT + STATION_LENGTH:
            return self._station()[address - STATION_AT : end - STATION_AT]
        if address < TERMINALS_AT or end > self._terminals_end:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        first = (address - TERMINALS_AT) // TERMINAL_STRIDE
        last = (end - 1 - TERMINALS_AT) // TERMINAL_STRIDE
        words: list[int] = []
        for index in range(first, last + 1):
            words += self._terminal(self._sop.converters[index])
        start = address - TERMINALS_AT - first * TERMINAL_STRIDE
        return words[start : start + count]

    def discrete(self, address: int, count: int) -> Sequence[bool]:
        """The 16 bits of the status word."""
        if address + count > 16:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        bits = self.status_bits()
        return [bool(bits >> k & 1) for k in range(address, address + count)]

    def _holding(self) -> list[int]:
        firmware = self._firmware()
        command = list(self._command)
        command[4:8] = (
            firmware.heartbeat_code,
            firmware.watchdog_ds,
            int(firmware.failsafe),
            firmware.failsafe_ramp_permille_per_s,
        )
        command[11] = firmware.lease_owner_id
        return command + [0] * (STAGED_AT - COMMAND_LENGTH) + firmware.staged

    def _station(self) -> list[int]:
        sop, firmware, now_us = self._sop, self._firmware(), self._now_us()
        uptime_s = max(0, now_us - firmware.booted_us) // 1_000_000
        return [
            int(sop.station_state()),
            self.status_bits(),
            *i32(self.fault_bits()),
            *i32(self.alarm_bits()),
            firmware.ack_seq,
            int(firmware.ack_code),
            uptime_s & 0xFFFF,
            min(0xFFFF, math.ceil(firmware.watchdog_remaining_us(now_us) / 100_000)),
            *i32(firmware.echoed_id(now_us)),
            sop.master_index + 1,
            *i32(sop.v_dc_measured_v * 10),
            *i32(sop.loss_w),
            *i32(uptime_s),
            FIRMWARE_VERSION,
            *i32(len(sop.events)),
            *i32(len(sop.events)),
            *u64(self._utc_us()),
            *i32(sop.loss_wh),
            *[0] * (STATION_LENGTH - 30),
        ]

    def fault_bits(self) -> Fault:
        """FAULT of the station: what any terminal has latched."""
        bits = Fault(0)
        for converter in self._sop.converters:
            bits |= converter.faults
            if converter.state is OpState.ESTOP:
                bits |= Fault.ESTOP
        return bits

    def alarm_bits(self) -> int:
        """ALARM of the station."""
        sop, firmware = self._sop, self._firmware()
        level = sop.v_dc_measured_v / sop.spec.v_dc_nominal_v
        energised = any(c.energised for c in sop.converters)
        alarms = (
            any(c.derate_ratio < 1.0 or c.state is OpState.DERATED for c in sop.converters),
            sop.fan_failed,
            any(c.heatsink_celsius > DERATE_FROM_CELSIUS for c in sop.converters),
            level > 1.05,
            energised and level < 0.95,
            firmware.comm_fault or firmware.failsafe_active,
            False,
        )
        return sum(1 << k for k, raised in enumerate(alarms) if raised)

    def status_bits(self) -> int:
        """STATUS_WORD."""
        sop, firmware, now_us = self._sop, self._firmware(), self._now_us()
        state = sop.station_state()
        running = state in (OpState.RUN, OpState.DERATED, OpState.ISLAND)
        tripped = any(c.state in (OpState.FAULT, OpState.LOCKOUT) for c in sop.converters)
        at_setpoint = running and all(
            abs(c.p_w - c.p_set_w) <= max(2000.0, AT_SETPOINT_RATIO * c.s_va)
            for c in sop.converters
            if c is not sop.master and c.modulating
        )
        bits = (
            state is OpState.STOPPED,
            state is OpState.STANDBY,
            running,
            tripped,
            bool(self.alarm_bits()),
            not firmware.local,
            at_setpoint,
            any(c.limits for c in sop.converters),
            any(c.derate_ratio < 1.0 or c.state is OpState.DERATED for c in sop.converters),
            firmware.comm_fault or firmware.failsafe_active,
            firmware.selected(now_us) is not None,
            sop.master.energised,
            firmware.local,
            state is OpState.ESTOP,
            sop.door_open,
            bool(max(0, now_us - firmware.booted_us) // 1_000_000 & 1),
        )
        return sum(1 << k for k, on in enumerate(bits) if on)

    def _terminal(self, c: Converter) -> list[int]:
        s_va = math.hypot(c.p_w, c.q_var)
        ahead_s = max(0, self._now_us() - self._sop.t_us) * 1e-6
        return [
            int(c.state),
            *i32(c.p_w),
            *i32(c.q_var),
            *i32(s_va),
            *i32(c.v_ac_v * 10),
            *i32(c.i_pu() * c.rated.i_nominal_a * 10),
            u16(c.f_hz * 100),
            *i32(c.p_set_w),
            *i32(c.p_set_rx_w),
            *i32(c.s_va_available()),
            *u64(c.injected_wh + max(0.0, c.p_w) * ahead_s / 3600.0),
            *u64(c.absorbed_wh + max(0.0, -c.p_w) * ahead_s / 3600.0),
            u16(c.heatsink_celsius * 10),
            *i32(c.faults),
            u16(c.limits),
            c.ramp_permille_per_s,
            *i32(c.q_set_var),
            int(c.mode),
            *[0] * (TERMINAL_STRIDE - 34),
        ]

    # ------------------------------------------------------------------ write

    def write(self, address: int, values: Sequence[int]) -> None:
        """Parameters, heartbeat, staged block; a command when the sequence number is new."""
        end = address + len(values)
        if end > self._staged_end or any(
            COMMAND_LENGTH <= a < STAGED_AT for a in range(address, end)
        ):
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        if any(first + 1 == address or first + 1 == end for first in self._wide):
            raise ModbusRefusalError(ILLEGAL_VALUE)
        self.write_count += 1
        if address >= STAGED_AT:
            self._firmware().stage(address - STAGED_AT, values)
            return
        self._write_command(address, values)

    def _write_command(self, address: int, values: Sequence[int]) -> None:
        firmware, now_us = self._firmware(), self._now_us()
        words = self._holding()[:COMMAND_LENGTH]
        words[address : address + len(values)] = values
        touched = range(address, address + len(values))
        self._check_parameters(words, touched)
        acts = 0 in touched and words[0] != firmware.ack_seq
        foreign = (
            11 in touched
            and firmware.leased(now_us)
            and words[11] not in (0, firmware.lease_owner_id)
        )
        if foreign and not acts:
            raise ModbusRefusalError(DEVICE_FAILURE)
        self._command[:] = words
        if 4 in touched and not foreign:
            firmware.heartbeat(words[4], now_us)
        if not foreign:
            if 5 in touched:
                firmware.watchdog_ds = words[5]
            if 6 in touched:
                firmware.failsafe = Failsafe(words[6])
            if 7 in touched:
                firmware.failsafe_ramp_permille_per_s = words[7]
            if 11 in touched and not firmware.leased(now_us):
                firmware.lease_owner_id = words[11]
        if acts:
            firmware.request(
                Request(
                    seq=words[0],
                    code=words[1],
                    argument_bits=words[2],
                    crc_code=words[3],
                    instruction_id=words[8] << 16 | words[9],
                    ttl_s=words[10],
                    owner_id=words[11],
                ),
                now_us,
            )

    @staticmethod
    def _check_parameters(words: Sequence[int], touched: range) -> None:
        low, high = WATCHDOG_RANGE_DS
        bad = (
            (5 in touched and not low <= words[5] <= high)
            or (6 in touched and words[6] not in FAILSAFES)
            or (7 in touched and not 1 <= words[7] <= 1000)
        )
        if bad:
            raise ModbusRefusalError(ILLEGAL_VALUE)
