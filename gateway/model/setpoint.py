"""Setpoints and the instruction that carries them to a station."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ControlMode(enum.IntEnum):
    """What a converter regulates (station map v1, MODE)."""

    P_Q = 0
    VDC_Q = 1
    VDC_DROOP = 2
    VAC_F = 3
    STATCOM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Setpoint:
    """What one terminal shall hold: P > 0 injects into its feeder.

    ``ramp_permille_per_s`` is its own way there, so that all terminals arrive together; 0 takes
    the instruction's.
    """

    terminal: str
    mode: ControlMode
    p_w: int
    q_var: int = 0
    ramp_permille_per_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Setpoints for every terminal of one SOP, applied together or not at all.

    ``ttl_s`` counts from OPERATE; after it the station returns to zero by itself.
    """

    id: int  # 32 bits: the first four bytes of the hash of the intent
    sop: str
    setpoints: tuple[Setpoint, ...]
    ramp_permille_per_s: int  # 0.1 %/s of each terminal's rating; of one without its own
    ttl_s: int

    def ramp_of(self, setpoint: Setpoint) -> int:
        """Ramp of one terminal in 0.1 %/s of its rating."""
        return setpoint.ramp_permille_per_s or self.ramp_permille_per_s


class Command(enum.IntEnum):
    """Station commands (station map v1, CMD_CODE)."""

    START = 1
    STOP = 2
    RESET = 3
    ENTER_STANDBY = 4
    EXIT_STANDBY = 5
    SOFT_ESTOP = 6
    SELECT = 7
    OPERATE = 8
    CANCEL = 9
    SET_MASTER = 10


class Ack(enum.IntEnum):
    """The station's answer to a command (station map v1, ACK_CODE)."""

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
