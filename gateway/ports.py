"""The whole outside on one page: what the runtime asks of the edges.

Powers are W and positive when injecting into the feeder; energies Wh; times UTC or monotonic
microseconds as the name says. Drivers raise the errors of ``gateway.model.errors``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

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


class Station(Protocol):
    """One SOP station controller: atomic SELECT and OPERATE over all its terminals."""

    name: str

    async def read(self) -> StationTelemetry:
        """Read state, terminals and acknowledgement in as few requests as the map allows."""
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

    async def append(self, kind: str, fields: Mapping[str, Any]) -> int:
        """Add one entry and return its index once it is durable; raise JournalError otherwise."""
        ...


class Outbox(Protocol):
    """Messages to the market, resent until acknowledged."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send one message at least once."""
        ...
