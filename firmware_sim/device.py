"""What every simulated device has in common: simulated now, ports, faults, the truth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from firmware_sim.claims import Claims, Undo
from firmware_sim.faces.responder import Responder, Wire
from firmware_sim.timebase import SimClock

TICK_S: Final = 0.020
STEP_SLOW_US: Final = 20_000
STEP_FAST_US: Final = 100_000
# A longer pause of the host than this is simply lost, not caught up step by step.
CATCH_UP_MAX_US: Final = 6 * 3600 * 1_000_000


class Server(Protocol):
    """A face that listens and whose link can be disturbed."""

    responder: Responder
    wire: Wire

    def cut(self, *, silent: bool) -> None:
        """Break the link."""

    def drop_connections(self) -> None:
        """Reset every open connection."""

    async def close(self) -> None:
        """Stop listening."""


class SimulatedDevice(ABC):
    """A device behind Modbus servers whose physics follows simulated time in fixed steps."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.t_us = 0
        self.responder: Responder
        self.step_us = STEP_SLOW_US if clock.base.factor <= 3.0 else STEP_FAST_US
        self._start_us = clock.elapsed_us()
        self.claims = Claims()
        # Further faces of the first port, which share its link, and those no fault of it reaches.
        self.faces: list[Server] = []
        self.beyond: list[str] = []

    # ------------------------------------------------------------------- time

    def now_us(self) -> int:
        """Simulated time since the device was switched on."""
        return self.clock.elapsed_us() - self._start_us

    def day_s(self) -> float:
        """Second of the simulated UTC day at the last physics step."""
        epoch_us = self.clock.base.utc_epoch_us + self._start_us
        return (epoch_us + self.t_us) % 86_400_000_000 * 1e-6

    def ahead_s(self) -> float:
        """How far now lies beyond the last physics step; powers are held over it."""
        return max(0, self.now_us() - self.t_us) * 1e-6

    def advance(self) -> None:
        """Step the physics on its fixed grid up to simulated now."""
        now_us, step_us = self.now_us(), self.step_us
        if now_us - self.t_us > CATCH_UP_MAX_US:
            self._start_us += now_us - self.t_us
            return
        # After an order between two steps the next one is shorter and ends on the grid again.
        while (dt_us := step_us - self.t_us % step_us) <= now_us - self.t_us:
            self.t_us += dt_us
            self.step(dt_us)

    def settle(self) -> None:
        """Bring the physics to this very instant: something from outside is about to act.

        Readings carry energy on to the instant; what they have shown must be counted before the
        power changes, or a counter would fall.
        """
        self.advance()
        rest_us = self.now_us() - self.t_us
        if rest_us > 0:
            self.t_us += rest_us
            self.step(rest_us)

    async def run(self, wait: Callable[[float], Awaitable[None]]) -> None:
        """Keep the physics going while nobody asks."""
        while True:
            self.advance()
            await wait(TICK_S)

    # ------------------------------------------------------------------ ports

    async def close(self) -> None:
        """Close all ports."""
        for server in self.servers():
            await server.close()

    # ----------------------------------------------------------- of each device

    @abstractmethod
    def step(self, dt_us: int) -> None:
        """Advance the physics by one step."""

    @abstractmethod
    async def start(self, port: int) -> Mapping[str, Any]:
        """Open all ports (0: free ones) and say which."""

    @abstractmethod
    def servers(self, target: str = "all") -> list[Server]:
        """Servers by name."""

    @abstractmethod
    def truth(self) -> Mapping[str, Any]:
        """The true state, for testers."""

    @abstractmethod
    def note(self, what: str) -> None:
        """Remember an event."""

    @abstractmethod
    def disturb(self, fault: str, order: Mapping[str, Any]) -> Undo | None:
        """Start a fault inside the device; returns what takes this one order back."""

    @abstractmethod
    def recover(self) -> None:
        """Take back every fault inside the device that can be taken back."""
