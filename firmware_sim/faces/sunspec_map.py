"""SunSpec face of one terminal: models 1, 701, 702, 703, 704, 714, 715 from register 40000."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from firmware_sim.faces.registers import (
    DEVICE_FAILURE,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    ModbusRefusalError,
    Table,
    signed32,
    text,
)
from firmware_sim.faces.sunspec_layout import ABSENT, LAYOUTS, Place, lay_out
from firmware_sim.plant.converter import Fault, Mode
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.setpoints import Ack
from firmware_sim.plant.sop import Sop
from firmware_sim.plant.states import ENERGISED, Event, OpState

BASE = 40000
MODELS = (1, 701, 702, 703, 704, 714, 715)
PLACES, END = lay_out(MODELS, BASE)
_AT = {p.address: key for key, p in PLACES.items()}
SMALL_VA_MAX = 327_000
_INV_STATES = {
    OpState.OFF: 0, OpState.STOPPED: 0, OpState.INIT: 2, OpState.PRECHARGE: 2, OpState.SYNC: 2,
    OpState.STANDBY: 7, OpState.RUN: 3, OpState.ISLAND: 3, OpState.DERATED: 4,
    OpState.STOPPING: 5, OpState.FAULT: 6, OpState.LOCKOUT: 6, OpState.ESTOP: 6,
    OpState.MAINT: 0,
}  # fmt: skip
_ALARMS = {
    Fault.EARTH_FAULT: 0, Fault.DC_OVERVOLTAGE: 1, Fault.DOOR: 5, Fault.ESTOP: 6,
    Fault.OVER_TEMPERATURE: 7, Fault.OVER_FREQUENCY: 8, Fault.UNDER_FREQUENCY: 9,
    Fault.AC_OVERVOLTAGE: 10, Fault.AC_UNDERVOLTAGE: 11, Fault.WATCHDOG: 14,
    Fault.DC_UNDERVOLTAGE: 16, Fault.OVER_CURRENT: 16, Fault.PLL_LOSS: 16,
    Fault.PRECHARGE_TIMEOUT: 16, Fault.BREAKER_FAIL: 16, Fault.INTERNAL: 16,
}  # fmt: skip
_OPERATIONS = {0: Event.STOP, 1: Event.START, 2: Event.ENTER_STANDBY, 3: Event.EXIT_STANDBY}
# Where an operation finds nothing left to do.
_THERE = {
    Event.STOP: frozenset({OpState.STOPPED, OpState.STOPPING}),
    Event.START: ENERGISED,
    Event.ENTER_STANDBY: frozenset({OpState.STANDBY}),
    Event.EXIT_STANDBY: frozenset({OpState.RUN, OpState.DERATED}),
}
WATTS, VARS = 1, 4
# Writing one of these starts the timer of its set value anew.
_RENEWS = ("", "Ena", "EnaRvrt", "Rvrt", "RvrtTms")


def _encode(place: Place, value: float | str | None) -> tuple[int, ...]:
    if value is None:
        return ABSENT.get(place.kind, (0,) * place.size)
    if isinstance(value, str):
        return text(value, place.size)
    bits = round(value) & (1 << 16 * place.size) - 1
    return tuple(bits >> 16 * k & 0xFFFF for k in reversed(range(place.size)))


def _at_start(index: int) -> dict[str, int]:
    """What may be written, as it stands after power came."""
    return {
        "704.WSetEna": 0, "704.WSetMod": WATTS, "704.WSet": 0, "704.WSetRvrt": 0,
        "704.WSetEnaRvrt": 0, "704.WSetRvrtTms": 0, "704.VarSetEna": 0,
        "704.VarSetMod": VARS, "704.VarSetPri": 0, "704.VarSet": 0, "704.VarSetRvrt": 0,
        "704.VarSetEnaRvrt": 0, "704.VarSetRvrtTms": 0, "704.WRmp": 20, "703.ES": 1,
        "715.ControllerHb": 0, "715.AlarmReset": 0, "715.OpCtl": 3, "1.DA": index + 1,
    }  # fmt: skip


class SunSpecMap:
    """One terminal of the station as a SunSpec DER."""

    def __init__(
        self,
        sop: Sop,
        firmware: Callable[[], Firmware],
        index: int,
        *,
        serial: str,
        now_us: Callable[[], int],
    ) -> None:
        self._sop = sop
        self._firmware = firmware
        self._index = index
        self._serial = serial
        self._now_us = now_us
        self._device = firmware()
        self._written = _at_start(index)
        self._reverts_us: dict[str, int] = {}
        # OPERATEs of the station before each timer began: a later one replaced the set value.
        self._operates_count: dict[str, int] = {}
        self.write_count = 0
        self._image_key: tuple[int, ...] = ()
        self._words: list[int] = []
        self.identity = ("sop-gateway bench", sop.spec.kind, "1.3")
        self._exponent = 1 if sop.converters[index].s_va <= SMALL_VA_MAX else 3

    # ------------------------------------------------------------------- read

    def read(self, table: Table, address: int, count: int) -> Sequence[int]:
        """Holding registers from 40000 to the end model; reads may start anywhere."""
        if table is not Table.HOLDING or address < BASE or address + count > END + 2:
            raise ModbusRefusalError(ILLEGAL_ADDRESS)
        # Within one physics step nothing moves unless somebody gives an order.
        self._look_for_restart()
        sop, firmware = self._sop, self._firmware()
        orders = firmware.counters.operate_count + firmware.counters.direct_count
        key = (sop.t_us, self.write_count, orders, len(sop.events), firmware.local)
        if key != self._image_key:
            self._image_key, self._words = key, self._image()
        image = self._words
        return image[address - BASE : address - BASE + count]

    def discrete(self, _address: int, _count: int) -> Sequence[bool]:
        """A SunSpec unit has no discrete inputs."""
        raise ModbusRefusalError(ILLEGAL_ADDRESS)

    def _image(self) -> list[int]:
        values = {**self._constants(), **self._measured(), **self._controls()}
        words = [0x5375, 0x6E53]
        for model_id in MODELS:
            body: list[int] = []
            for word in LAYOUTS[model_id].split():
                key = f"{model_id}.{word.rstrip('!').split(':')[0]}"
                body += _encode(PLACES[key], values.get(key))
            words += [model_id, len(body), *body]
        return [*words, 0xFFFF, 0]

    def _constants(self) -> Mapping[str, float | str]:
        rated = self._sop.converters[self._index].rated
        scale = 10**-self._exponent
        s = rated.s_va * scale
        volts = 10.0 if rated.v_ac_nominal_v < 6000 else 0.1
        v = rated.v_ac_nominal_v * volts
        v_exponent = -1 if volts > 1 else 1
        a = rated.i_nominal_a * 10
        return {
            "1.Mn": "sop-gateway bench", "1.Md": self._sop.spec.kind, "1.Opt": "",
            "1.Vr": "1.3", "1.SN": self._serial, "701.ACType": 2,
            "701.A_SF": -1, "701.V_SF": v_exponent, "701.Hz_SF": -2,
            "701.W_SF": self._exponent, "701.PF_SF": -3, "701.VA_SF": self._exponent,
            "701.Var_SF": self._exponent, "701.TotWh_SF": 0, "701.TotVarh_SF": 0,
            "701.Tmp_SF": -1, "702.WMaxRtg": s, "702.VAMaxRtg": s, "702.VarMaxInjRtg": s,
            "702.VarMaxAbsRtg": s, "702.VNomRtg": v, "702.VMaxRtg": v * 1.15,
            "702.VMinRtg": v * 0.85, "702.AMaxRtg": a, "702.CtrlModes": 0x3,
            "702.WMax": s, "702.VarMaxInj": s, "702.VarMaxAbs": s,
            "702.VNom": v, "702.VMax": v * 1.15, "702.VMin": v * 0.85, "702.AMax": a,
            "702.W_SF": self._exponent, "702.PF_SF": -3, "702.VA_SF": self._exponent,
            "702.Var_SF": self._exponent, "702.V_SF": v_exponent, "702.A_SF": -1, "702.S_SF": 0,
            "703.ESVHi": 1050, "703.ESVLo": 950, "703.ESHzHi": 5010, "703.ESHzLo": 4990,
            "703.ESDlyTms": 0, "703.V_SF": -1, "703.Hz_SF": -2,
            "704.PF_SF": -3, "704.WMaxLimPct_SF": -1, "704.WSet_SF": 0, "704.WSetPct_SF": -1,
            "704.VarSet_SF": 0, "704.VarSetPct_SF": -1, "704.WRmpRef": 0,
            "714.NPrt": 1, "714.PrtAlrms": 0, "714.DCA_SF": -1, "714.DCV_SF": 0,
            "714.DCW_SF": self._exponent, "714.DCWH_SF": 0, "714.Tmp_SF": -1,
            "714.Prt_PrtTyp": 5, "714.Prt_ID": 1, "714.Prt_IDStr": "DC link",
        }  # fmt: skip

    def _measured(self) -> Mapping[str, float | str]:
        sop = self._sop
        c = sop.converters[self._index]
        scale = 10**-self._exponent
        s_va = math.hypot(c.p_w, c.q_var)
        volts = 10.0 if c.rated.v_ac_nominal_v < 6000 else 0.1
        amps = c.i_pu() * c.rated.i_nominal_a
        p_dc = -(c.p_w + c.loss_w())
        v_dc = max(sop.v_dc_measured_v, 1.0)
        phases: dict[str, float | str] = {}
        for phase in ("L1", "L2", "L3"):
            phases |= {
                f"701.W{phase}": c.p_w * scale / 3,
                f"701.VA{phase}": s_va * scale / 3,
                f"701.Var{phase}": c.q_var * scale / 3,
                f"701.A{phase}": amps * 10,
                f"701.V{phase}": c.v_ac_v * volts / math.sqrt(3),
            }
        alarms = sum({1 << bit for fault, bit in _ALARMS.items() if c.faults & fault})
        return phases | {
            "701.St": int(c.modulating), "701.InvSt": _INV_STATES[c.state],
            "701.ConnSt": int(c.energised), "701.Alrm": alarms,
            "701.DERMode": 2 if c.mode is Mode.VAC_F else 1, "701.W": c.p_w * scale,
            "701.VA": s_va * scale, "701.Var": c.q_var * scale,
            "701.PF": 1000 * (c.p_w / s_va if s_va > 1 else 1.0), "701.A": amps * 10,
            "701.LLV": c.v_ac_v * volts, "701.LNV": c.v_ac_v * volts / math.sqrt(3),
            "701.Hz": c.f_hz * 100, "701.TotWhInj": math.floor(c.injected_wh),
            "701.TotWhAbs": math.floor(c.absorbed_wh), "701.TmpCab": 350,
            "701.TmpSnk": c.heatsink_celsius * 10, "701.TmpSw": c.heatsink_celsius * 10 + 50,
            "714.DCA": 10 * p_dc / v_dc, "714.DCW": p_dc * scale, "714.Prt_DCA": 10 * p_dc / v_dc,
            "714.Prt_DCV": sop.v_dc_measured_v, "714.Prt_DCW": p_dc * scale,
            "714.Prt_DCSta": int(c.energised), "702.VAMax": math.floor(c.s_va_available() * scale),
        }  # fmt: skip

    def _controls(self) -> Mapping[str, float | str]:
        now_us, firmware = self._now_us(), self._firmware()
        uptime_s = max(0, now_us - firmware.booted_us) // 1_000_000
        left = {
            f"704.{name}RvrtRem": max(0, self._reverts_us.get(name, now_us) - now_us) // 1_000_000
            for name in ("WSet", "VarSet")
        }
        return {
            **self._written, **left, "715.LocRemCtl": int(firmware.local),
            "715.DERHb": uptime_s,
        }  # fmt: skip

    # ------------------------------------------------------------------ write

    def write(self, address: int, values: Sequence[int]) -> None:
        """Whole points only, each one writable; all checked before any is taken."""
        changes: dict[str, int] = {}
        at, end = address, address + len(values)
        while at < end:
            key = _AT.get(at)
            place = PLACES.get(key) if key is not None else None
            if key is None or place is None or not place.writable:
                raise ModbusRefusalError(ILLEGAL_ADDRESS)
            if at + place.size > end:
                raise ModbusRefusalError(ILLEGAL_VALUE)
            words = values[at - address : at - address + place.size]
            changes[key] = (
                signed32(words[0], words[1])
                if place.kind == "i32"
                else (words[0] if place.size == 1 else words[0] << 16 | words[1])
            )
            at += place.size
        self.write_count += 1
        self._take(changes)

    def _look_for_restart(self) -> None:
        """Nothing written here outlives a restart, but for the set value of a bad device."""
        if self._firmware() is not self._device:
            self._device = self._firmware()
            self._written = _at_start(self._index)
            converter = self._sop.converters[self._index]
            if converter.modulating:
                self._written |= {"704.WSet": converter.p_set_rx_w, "704.WSetEna": 1}
            self._reverts_us.clear()
            self._image_key = ()

    def _take(self, changes: Mapping[str, int]) -> None:
        self._look_for_restart()
        firmware, now_us = self._firmware(), self._now_us()
        if any(key.startswith("704.") for key in changes) and firmware.leased(now_us):
            raise ModbusRefusalError(DEVICE_FAILURE)
        if firmware.local and any(not key.startswith("1.") for key in changes):
            raise ModbusRefusalError(DEVICE_FAILURE)
        wanted = {**self._written, **changes}
        if wanted["704.WSetMod"] != WATTS or wanted["704.VarSetMod"] != VARS:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        if wanted["704.VarSetPri"] not in (0, 1):
            raise ModbusRefusalError(ILLEGAL_VALUE)
        s = self._sop.converters[self._index].s_va
        if math.hypot(wanted["704.WSetRvrt"], wanted["704.VarSetRvrt"]) > s:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        if not 1 <= wanted["704.WRmp"] <= 100:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        if changes.keys() & {"704.WSet", "704.WSetEna", "704.VarSet", "704.VarSetEna"}:
            self._set(wanted, now_us)
        if "704.VarSetPri" in changes:
            self._sop.converters[self._index].q_first = wanted["704.VarSetPri"] == 1
        if "704.WRmp" in changes:
            self._sop.converters[self._index].ramp_permille_per_s = 10 * wanted["704.WRmp"]
        self._operate(changes)
        self._written = wanted
        for name in ("WSet", "VarSet"):
            if any(f"704.{name}{part}" in changes for part in _RENEWS):
                self._arm(name, wanted, now_us)

    def _set(self, wanted: Mapping[str, int], now_us: int) -> None:
        p_w = wanted["704.WSet"] if wanted["704.WSetEna"] else 0
        q_var = wanted["704.VarSet"] if wanted["704.VarSetEna"] else 0
        s = self._sop.converters[self._index].s_va
        if math.hypot(wanted["704.WSet"], wanted["704.VarSet"]) > s:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        answer = self._firmware().direct(self._index, p_w=p_w, q_var=q_var, now_us=now_us)
        if answer is Ack.REJECTED_RANGE:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        if answer is not Ack.EXECUTED:
            raise ModbusRefusalError(DEVICE_FAILURE)

    def _operate(self, changes: Mapping[str, int]) -> None:
        if changes.get("715.AlarmReset") == 1:
            self._sop.reset(self._index)
        operation = changes.get("715.OpCtl")
        if operation is None:
            return
        event = _OPERATIONS.get(operation)
        if event is None:
            raise ModbusRefusalError(ILLEGAL_VALUE)
        if self._sop.converters[self._index].state in _THERE[event]:
            return
        if not self._sop.raise_event(self._index, event):
            raise ModbusRefusalError(DEVICE_FAILURE)
        self._sop.close_balance()

    def _arm(self, name: str, wanted: Mapping[str, int], now_us: int) -> None:
        """Start the dead-man of a set value; each write to one of its points starts it anew.

        On a bench in fast time a stall of the host must not look like a silent writer.
        """
        life_s = wanted[f"704.{name}RvrtTms"]
        if wanted[f"704.{name}EnaRvrt"] and wanted[f"704.{name}Ena"] and life_s:
            life_us = max(life_s * 1_000_000, self._firmware().limit_floor_us)
            self._reverts_us[name] = now_us + life_us
            self._operates_count[name] = self._firmware().counters.operate_count
        else:
            self._reverts_us.pop(name, None)

    def tick(self, now_us: int) -> None:
        """Let expired set values revert: by the device itself, whoever may command it."""
        self._look_for_restart()
        for name in [n for n, at_us in self._reverts_us.items() if now_us >= at_us]:
            del self._reverts_us[name]
            firmware = self._firmware()
            # A fail-safe is on its way to less power: no set value turns it round.
            value = 0 if firmware.failsafe_active else self._written[f"704.{name}Rvrt"]
            self._written[f"704.{name}"] = value
            self._image_key = ()
            if firmware.counters.operate_count == self._operates_count[name]:
                p_w, q_var = (value, None) if name == "WSet" else (None, value)
                firmware.revert(self._index, p_w=p_w, q_var=q_var)
