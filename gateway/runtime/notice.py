"""Tells the service manager how the gateway is: started, observing, alive, stopping.

Speaks systemd's datagram protocol (``Type=notify``). The watchdog is fed by scans that ended, by
nothing else: a gateway whose loop turns but no longer decides is killed and started again.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.state import State
from gateway.ports import Clock

LOOK_US = 1_000_000  # real time between two looks at the scan: a tenth of the usual watchdog
STATUS_CHARS_MAX = 200  # of the status text: one line of ``systemctl status``
LOAN_CHARS_MAX = 60  # of whose hands control is in: the reasons after it matter as well
LOANS = frozenset({"borrow", "return", "control.lost"})  # entries that begin and end one


class ServiceManager:
    """The one that started us, if it wants to be told; silent otherwise."""

    def __init__(self, address: str | None) -> None:
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.settimeout(0)
            self._address = "\0" + address[1:] if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ServiceManager:
        """Find the address where systemd puts it."""
        return cls(environment.get("NOTIFY_SOCKET"))

    @property
    def listens(self) -> bool:
        """Whether anybody wants to be told."""
        return self._socket is not None

    def tell(self, **fields: str) -> None:
        """Send one datagram; a manager that does not read loses it, the gateway never waits."""
        if self._socket is None:
            return
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), self._address)

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class ServiceNotice:
    """Reports one scan to the service manager until cancelled."""

    def __init__(
        self,
        *,
        manager: ServiceManager,
        clock: Clock,
        state: Callable[[], State],
        scans_count: Callable[[], int],
        lent: Callable[[], str] = str,
    ) -> None:
        """Report ``state`` as scans end; ``lent`` says in whose hands control is, if not ours."""
        self._manager = manager
        self._clock = clock
        self._state = state
        self._scans_count = scans_count
        self._lent = lent
        self._seen_count = 0
        self._told = ""

    async def run(self) -> None:
        """Say READY after the first whole scan, then feed the watchdog as scans end."""
        if not self._manager.listens:
            return
        try:
            while True:
                self.look()
                await self._clock.sleep_until(self._clock.mono_us() + self._clock.at_least(LOOK_US))
        finally:
            self._manager.tell(STOPPING="1", STATUS="bringing the station to zero")

    def take(self, _index: int, entry: Mapping[str, Any]) -> None:
        """Tell a changed state at once: before power moves, the package must know of it."""
        loan = entry["kind"] == "operator" and entry["verb"] in LOANS
        if (entry["kind"] == "mode" or loan) and self._seen_count:
            status = status_text(self._state(), self._lent())
            if status != self._told:
                self._told = status
                self._manager.tell(STATUS=status)

    def look(self) -> None:
        """Tell what changed since the last look."""
        count = self._scans_count()
        if count == self._seen_count:
            return
        fields = {"WATCHDOG": "1"}
        if self._seen_count == 0:
            fields["READY"] = "1"
        self._seen_count = count
        status = status_text(self._state(), self._lent())
        if status != self._told:
            fields["STATUS"] = self._told = status
        self._manager.tell(**fields)


def status_text(state: State, lent: str = "") -> str:
    """Write the state, who holds control if not we, and what is in the way, as one line."""
    if not state.moments:
        return "INIT"
    now = state.moments[-1]
    reasons = "; ".join(reason.text() for reason in now.reasons)
    text = f"{now.state}, mode {state.mode}"
    if lent:  # the package's scripts look for these two words: power may be moved by others
        text += f", control lent to {lent[:LOAN_CHARS_MAX]}"
    text += f": {reasons}" if reasons else ""
    return " ".join(text.split())[:STATUS_CHARS_MAX]


def this_process() -> ServiceManager:
    """Return the service manager of this process; its children are not to speak for it."""
    manager = ServiceManager.from_environment(os.environ)
    os.environ.pop("NOTIFY_SOCKET", None)
    return manager
