"""The whole outside on one page: what the runtime asks of the edges.

Powers are W and positive when injecting into the feeder; energies Wh; times UTC or monotonic
microseconds as the name says. Drivers raise the errors of ``gateway.model.errors``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.model.interval import Interval
from gateway.model.limits import FeederLimits
from gateway.model.message import Inbound, Readable, Unreadable
from gateway.model.reason import Reason
from gateway.model.setpoint import Ack, Command, Instruction
from gateway.model.telemetry import MeterReading, StationTelemetry


class Clock(Protocol):
    """Two clocks, injected: UTC for intervals and records, monotonic for ages and deadlines."""

    def utc_us(self) -> int:
        """Microseconds of UTC since 1970."""
        ...

    def mono_us(self) -> int:
        """Microseconds that never step back and go on during suspend."""
        ...

    async def sleep_until(self, mono_us: int) -> None:
        """Return at or after the given monotonic instant."""
        ...

    def quality(self) -> str:
        """Quality of UTC: ``good``, ``degraded`` or ``invalid``."""
        ...

    def at_least(self, real_us: int) -> int:
        """Clock microseconds that pass in ``real_us`` of real time; longer than it when sped up."""
        ...


class Station(Protocol):
    """One SOP station controller: atomic SELECT and OPERATE over all its terminals."""

    name: str

    async def read(self) -> StationTelemetry:
        """Read state, terminals and acknowledgement in as few requests as the map allows."""
        ...

    def staged_block(self, instruction: Instruction) -> bytes:
        """Return the exact staged registers that ``select`` will write: the intent carries them."""
        ...

    async def select(self, instruction: Instruction) -> Ack:
        """Stage the setpoints, send SELECT and read the acknowledgement back.

        Returns the station's own answer; raises OutcomeUnknown when none came.
        """
        ...

    async def staged_equals(self, instruction: Instruction) -> bool:
        """Read the staged block and INSTR_ID back and compare them byte for byte."""
        ...

    async def operate(self, instruction: Instruction) -> Ack:
        """Send OPERATE for the selected instruction and read the acknowledgement."""
        ...

    async def command(self, command: Command, argument: int = 0) -> Ack:
        """Send a command without staging (START, STOP, EXIT_STANDBY, CANCEL …)."""
        ...

    async def heartbeat(self, count: int) -> None:
        """Write the controller's sign of life; the station ramps to zero when it stops coming."""
        ...

    async def configure(
        self,
        *,
        watchdog_ds: int,
        failsafe: int,
        failsafe_ramp_permille_per_s: int,
        lease_owner: int,
    ) -> None:
        """Arm the station's watchdog and name the lease owner, then read both back."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Meter(Protocol):
    """One energy meter with two counters that only grow."""

    name: str

    async def read(self) -> MeterReading:
        """Read both counters and active power in one poll."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Journal(Protocol):
    """The gateway's only door to the ledger."""

    async def append(self, kind: str, fields: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Add one entry; return its index and the whole entry once it is durable.

        Raises JournalError when it cannot be made durable: the gateway then stops.
        """
        ...

    def status(self) -> LedgerStatus:
        """Size, last signed checkpoint and whether any evidence left the box."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerStatus:
    """What an operator sees of the ledger; anchored up to a size by others' signatures."""

    size: int
    checkpoint: str
    anchored: bool
    anchored_size: int = 0
    anchored_by: tuple[str, ...] = ()
    contradiction: str = ""  # somebody outside knows another tree of this ledger
    damage: str = ""  # what did not check when the segments were read behind the writer


class Market(Protocol):
    """The link to the market: messages in, signed answers out, at least once each way."""

    @property
    def inbox(self) -> asyncio.Queue[Inbound]:
        """Messages not yet taken in; none is acknowledged before it was."""
        ...

    async def acknowledge(self, inbound: Inbound) -> None:
        """Tell the broker that the message is ours; only after its entry is durable."""
        ...

    def limits(self, inbound: Inbound) -> FeederLimits | list[Reason] | None:
        """Judge a message of the system operator: limits or why not; None when it is none."""
        ...

    def read(self, inbound: Inbound) -> Readable | Unreadable:
        """Judge a message by itself: how it travelled, who signed it, what stands in it."""
        ...

    async def answer(
        self,
        *,
        message_sha256: str,
        trade_id: str | None,
        revision_number: int,
        accepted: bool,
        reasons: Sequence[Reason],
        ledger_index: int,
    ) -> None:
        """Publish the signed acknowledgement of one trade of a message."""
        ...

    async def report(
        self,
        *,
        trade_id: str,
        interval: Interval,
        contracted_wh: int,
        delivered_wh: int,
        status: str,
        reasons: Sequence[str],
        ledger_index: int,
    ) -> None:
        """Publish the signed delivery report of one trade in one interval."""
        ...

    async def tell(self, what: str, body: Mapping[str, Any]) -> None:
        """Publish a retained value: ``state``, ``telemetry``, ``checkpoint``, ``alarm/<code>``."""
        ...
