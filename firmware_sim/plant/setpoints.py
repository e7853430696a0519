"""The staged setpoint block: its registers, its checksum and the judgement at SELECT."""

from __future__ import annotations

import enum
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from firmware_sim.plant.converter import Converter, Mode

BLOCK_LENGTH = 12
_BLOCK = struct.Struct(">iiHHHiHHH")
RAMP_DEFAULT_PERMILLE = 200
MODES = frozenset(int(mode) for mode in Mode)
VDC_RANGE_PERMILLE = (900, 1100)
DROOP_RANGE_PERMILLE = (1, 200)


class Ack(enum.IntEnum):
    """ACK_CODE register."""

    NONE = 0
    ACCEPTED = 1
    EXECUTED = 2
    REJECTED_STATE = 3
    REJECTED_RANGE = 4
    REJECTED_CRC = 5
    REJECTED_LOCAL = 6
    REJECTED_NOT_SELECTED = 7
    TIMEOUT = 8
    REJECTED_LEASE = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Set values of one terminal as staged; zero in ramp, Vdc and droop means the default."""

    p_w: int
    q_var: int
    mode_code: int
    ramp_permille_per_s: int
    vdc_permille: int
    fallback_w: int
    droop_permille: int


def crc16(data: bytes) -> int:
    """CRC-16 as on the Modbus serial line: reflected 0xA001, start 0xFFFF."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def block_bytes(registers: Sequence[int]) -> bytes:
    """Registers as the big-endian bytes over which the checksum runs."""
    return struct.pack(f">{len(registers)}H", *registers)


def decode(registers: Sequence[int]) -> tuple[Staged, ...]:
    """Set values of all terminals from the staged registers."""
    data = block_bytes(registers)
    found = []
    for at in range(0, len(data), 2 * BLOCK_LENGTH):
        p, q, mode, ramp, vdc, fallback, droop, _, _ = _BLOCK.unpack_from(data, at)
        found.append(
            Staged(
                p_w=p,
                q_var=q,
                mode_code=mode,
                ramp_permille_per_s=ramp,
                vdc_permille=vdc,
                fallback_w=fallback,
                droop_permille=droop,
            )
        )
    return tuple(found)


def encode(setpoints: Sequence[Staged]) -> tuple[int, ...]:
    """Registers of the staged block."""
    data = b"".join(
        _BLOCK.pack(
            s.p_w, s.q_var, s.mode_code, s.ramp_permille_per_s, s.vdc_permille, s.fallback_w,
            s.droop_permille, 0, 0,
        )
        for s in setpoints
    )  # fmt: skip
    return struct.unpack(f">{len(data) // 2}H", data)


def within_range(converter: Converter, staged: Staged) -> bool:
    """Every value inside what the manual prints; nothing is clipped here."""
    s = converter.s_va
    return (
        staged.mode_code in MODES
        and staged.p_w**2 + staged.q_var**2 <= s * s
        and abs(staged.fallback_w) <= s
        and 0 <= staged.ramp_permille_per_s <= 1000
        and (
            staged.vdc_permille == 0
            or VDC_RANGE_PERMILLE[0] <= staged.vdc_permille <= VDC_RANGE_PERMILLE[1]
        )
        and (
            staged.droop_permille == 0
            or DROOP_RANGE_PERMILLE[0] <= staged.droop_permille <= DROOP_RANGE_PERMILLE[1]
        )
        and (staged.mode_code != Mode.STATCOM or staged.p_w == 0)
    )


def residual_w(
    converters: Sequence[Converter], setpoints: Sequence[Staged], master_index: int
) -> float:
    """Power the master would carry: minus the others' power and all losses."""
    others = 0.0
    for index, (converter, staged) in enumerate(zip(converters, setpoints, strict=True)):
        if not converter.energised:
            continue
        if index == master_index:
            continue
        i_pu = math.hypot(staged.p_w, staged.q_var) / converter.s_va
        others += staged.p_w + converter.losses.at_w(converter.s_va, i_pu)
    master, staged = converters[master_index], setpoints[master_index]
    p_w = -others
    for _ in range(8):
        i_pu = math.hypot(p_w, staged.q_var) / master.s_va
        p_w = -others - master.losses.at_w(master.s_va, i_pu)
    return p_w


def judge(converters: Sequence[Converter], setpoints: Sequence[Staged], master_index: int) -> Ack:
    """ACCEPTED, or the reason why the block may not be operated."""
    if not all(within_range(c, s) for c, s in zip(converters, setpoints, strict=True)):
        return Ack.REJECTED_RANGE
    regulating = [i for i, s in enumerate(setpoints) if s.mode_code == Mode.VDC_Q]
    droops = any(s.mode_code == Mode.VDC_DROOP for s in setpoints)
    if regulating != [master_index] and not (droops and not regulating):
        # One integrator on the DC link and it is the master in force; hand-over is SET_MASTER.
        return Ack.REJECTED_RANGE
    for converter, staged in zip(converters, setpoints, strict=True):
        idle = staged.p_w == 0 and staged.q_var == 0
        if not converter.energised and not idle:
            return Ack.REJECTED_STATE
        live = converter.feeder_v_v > 0.1 * converter.rated.v_ac_nominal_v
        forms = staged.mode_code == Mode.VAC_F
        if (forms and live) or (not forms and not live and converter.energised):
            # Never V/f on a live feeder, never anything else on a dead one; a terminal that has
            # tripped there carries nothing and must not hold up the others.
            return Ack.REJECTED_STATE
    if not regulating:
        return Ack.ACCEPTED
    p_w = residual_w(converters, setpoints, master_index)
    q_var = setpoints[master_index].q_var
    if math.hypot(p_w, q_var) > converters[master_index].s_va_available():
        return Ack.REJECTED_RANGE
    return Ack.ACCEPTED
