"""The last check before bytes leave: it knows the device, the terminals and nothing of the plan.

The core has its own envelope; this one is independent of it, so that no mistake there can move
power past a rating, a limit, a foreign lease or the write budget. It never changes a value: it
lets pass or refuses with a reason.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from gateway.devices.profile import Point
from gateway.model.errors import DeviceNotSent
from gateway.model.setpoint import ControlMode, Instruction
from gateway.model.telemetry import State, StationTelemetry
from gateway.model.terminal import Terminal

LOCAL_BIT = 1 << 12
SHUT_STATES = frozenset({State.FAULT, State.LOCKOUT, State.ESTOP, State.MAINT, State.OFF})


class GuardReason(enum.StrEnum):
    """Why the guard refused."""

    TERMINALS = "terminals"
    POWER_LIMIT = "power-limit"
    RATING = "rating"
    RAMP = "ramp"
    RANGE = "range"
    MASTER = "master"
    TIME_TO_LIVE = "time-to-live"
    WRITE_RATE = "write-rate"
    WEAR = "wear"
    LEASE = "lease"
    WATCHDOG = "watchdog"
    STATE = "state"
    NOT_SELECTED = "not-selected"
    READ_ONLY = "read-only"


class GuardRefused(DeviceNotSent):
    """The guard said no; nothing was sent and trying again does not help."""

    retryable = False

    def __init__(self, device: str, reason: GuardReason, detail: str) -> None:
        super().__init__(device, f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBudget:
    """How often setpoints may be written; zero, and every terminal towards zero, is exempt."""

    interval_ms_min: int = 500
    count_max: int = 240  # tracking every five seconds of a quarter of an hour, and closing
    window_s: int = 900


class StationGuard:
    """Guards one station controller."""

    def __init__(
        self,
        *,
        name: str,
        terminals: Sequence[Terminal],
        staged: Mapping[str, Point],
        owner: int,
        budget: WriteBudget | None = None,
    ) -> None:
        self._name = name
        self._terminals = {t.id: t for t in terminals}
        self._staged = staged  # points of the staged block by name, those of the first terminal
        self._budget = budget or WriteBudget()
        self._sent_us: deque[int] = deque()
        self._last: dict[str, tuple[int, int]] = {}  # p_w and q_var of what left last
        self.owner = owner

    def check(
        self, instruction: Instruction, *, seen: StationTelemetry | None, now_us: int
    ) -> None:
        """Refuse an instruction that must not be staged; ``seen`` is the newest telemetry."""
        self._check_terminals(instruction)
        for setpoint in instruction.setpoints:
            terminal = self._terminals[setpoint.terminal]
            self._check_power(terminal, p_w=setpoint.p_w, q_var=setpoint.q_var)
            self._check_ramp(terminal, instruction.ramp_of(setpoint))
        masters = [s.terminal for s in instruction.setpoints if s.mode is ControlMode.VDC_Q]
        if len(masters) > 1:
            raise self._no(GuardReason.MASTER, f"{' and '.join(masters)} would both hold Vdc")
        for master in masters:
            self._check_rest(self._terminals[master], instruction)
        moving = any(s.p_w or s.q_var for s in instruction.setpoints)
        if not (1 if moving else 0) <= instruction.ttl_s <= 0xFFFF:
            raise self._no(GuardReason.TIME_TO_LIVE, f"{instruction.ttl_s} s")
        self.check_lease(seen)
        if moving:
            self._check_state(seen)
        self._check_rate(instruction, now_us)

    def sent(self, instruction: Instruction, *, now_us: int) -> None:
        """Remember that an instruction left."""
        self._sent_us.append(now_us)
        self._last = {s.terminal: (s.p_w, s.q_var) for s in instruction.setpoints}

    def check_lease(self, seen: StationTelemetry | None) -> None:
        """Refuse while somebody else's lease is alive."""
        if (
            seen is not None
            and seen.lease_owner not in (0, self.owner)
            and seen.watchdog_remaining_ds > 0
        ):
            raise self._no(GuardReason.LEASE, f"held by {seen.lease_owner}")

    def _check_terminals(self, instruction: Instruction) -> None:
        given = [s.terminal for s in instruction.setpoints]
        if sorted(given) != sorted(self._terminals):
            raise self._no(
                GuardReason.TERMINALS,
                f"{', '.join(given) or 'none'} given, {', '.join(self._terminals)} wanted",
            )

    def _check_power(self, terminal: Terminal, *, p_w: int, q_var: int) -> None:
        if not terminal.p_w_min <= p_w <= terminal.p_w_max:
            raise self._no(
                GuardReason.POWER_LIMIT,
                f"{terminal.id} {p_w} W outside {terminal.p_w_min} … {terminal.p_w_max} W",
            )
        if p_w * p_w + q_var * q_var > terminal.s_va * terminal.s_va:
            raise self._no(
                GuardReason.RATING, f"{terminal.id} {p_w} W, {q_var} var over {terminal.s_va} VA"
            )
        for name, value in (("p_set", p_w), ("q_set", q_var)):
            limits = self._staged[name].range
            if limits is not None and not limits[0] <= value <= limits[1]:
                raise self._no(GuardReason.RANGE, f"{terminal.id}.{name} {value}")

    def _check_rest(self, master: Terminal, instruction: Instruction) -> None:
        """Hold what the others leave the master against its rating.

        Its limits of power are the core's to keep: they change with losses and with what was sent.
        """
        rest_w = -sum(s.p_w for s in instruction.setpoints if s.terminal != master.id)
        if abs(rest_w) > master.s_va:
            raise self._no(
                GuardReason.RATING, f"{master.id} as master {rest_w} W over {master.s_va} VA"
            )

    def _check_ramp(self, terminal: Terminal, ramp_permille_per_s: int) -> None:
        limits = self._staged["ramp_set"].range
        ramp = Decimal(ramp_permille_per_s) / 1000
        if limits is not None and not limits[0] <= ramp <= limits[1]:
            raise self._no(GuardReason.RANGE, f"ramp {ramp_permille_per_s} ‰/s")
        if ramp_permille_per_s * terminal.s_va > 1000 * terminal.ramp_w_per_s:
            raise self._no(
                GuardReason.RAMP,
                f"{terminal.id} {ramp_permille_per_s} ‰/s over {terminal.ramp_w_per_s} W/s",
            )

    def _check_state(self, seen: StationTelemetry | None) -> None:
        if seen is None:
            raise self._no(GuardReason.STATE, "the station has not been read yet")
        if seen.state in SHUT_STATES:
            raise self._no(GuardReason.STATE, f"the station is in {seen.state.name}")
        if seen.status_bits & LOCAL_BIT:
            raise self._no(GuardReason.STATE, "the station is switched to local")

    def _check_rate(self, instruction: Instruction, now_us: int) -> None:
        sent, budget = self._sent_us, self._budget
        while sent and sent[0] <= now_us - budget.window_s * 1_000_000:
            sent.popleft()
        if not any(s.p_w or s.q_var for s in instruction.setpoints):
            return
        if self._towards_zero(instruction):
            return
        if sent and now_us - sent[-1] < budget.interval_ms_min * 1000:
            raise self._no(GuardReason.WRITE_RATE, f"within {budget.interval_ms_min} ms")
        if len(sent) >= budget.count_max:
            raise self._no(
                GuardReason.WRITE_RATE, f"{budget.count_max} writes in {budget.window_s} s"
            )

    def _towards_zero(self, instruction: Instruction) -> bool:
        """Whether something falls, and nothing rises or changes its sign."""
        moves = [
            (now, before)
            for s in instruction.setpoints
            for now, before in zip(
                (s.p_w, s.q_var), self._last.get(s.terminal, (0, 0)), strict=True
            )
        ]
        inside = all(min(before, 0) <= now <= max(before, 0) for now, before in moves)
        return inside and any(now != before for now, before in moves)

    def _no(self, reason: GuardReason, detail: str) -> GuardRefused:
        return GuardRefused(self._name, reason, detail)
