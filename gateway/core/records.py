"""What the state is made of: one small record for each thing the ledger can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.dispatch import Phase
from gateway.core.envelope import Planned
from gateway.core.verify import MarketPolicy
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the core needs of the configuration; also the content of the ``config`` entry."""

    site: str
    sop: Sop
    policy: MarketPolicy
    rearm: str  # manual | auto
    owner_id: int
    ramp_permille_per_s: int
    separate: bool = False  # each terminal has a controller of its own: the stepped rule holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message that is durable and not yet wholly decided."""

    index: int
    utc_us: int
    size: int
    sha256: str
    payload: bytes  # empty when the message was too large to keep
    retain: bool
    topic: str
    mono_us: int = 0
    boot_number: int = 0
    decided: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRecord:
    """One interval's plan as it stands in the ledger."""

    index: int
    interval: Interval
    planned: tuple[Planned, ...]
    target_wh: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class IntentRecord:
    """One instruction on its way."""

    index: int
    instr_id: int
    authority: str
    plan_index: int
    setpoints: Mapping[str, int]
    command: str | None
    mono_us: int
    boot_number: int
    ramps: Mapping[str, int] = field(default_factory=dict)  # 0.1 %/s, of setpoints that say it
    q_var: Mapping[str, int] = field(default_factory=dict)
    toward: Mapping[str, int] = field(default_factory=dict)  # of a step: where the steps lead
    phase: Phase = Phase.INTENDED

    @property
    def never_left(self) -> bool:
        """Whether nothing was carried out for sure: without a durable commit OPERATE never left.

        Only a session at a commissioning writes none, so of its intents that is not known.
        """
        by_session = self.authority == "operator" and self.plan_index == -1
        if self.command is not None or (by_session and self.phase is Phase.INTENDED):
            return False
        return self.phase in (Phase.INTENDED, Phase.PREPARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """Setpoints the station was last seen to hold on our word."""

    instr_id: int
    setpoints: Mapping[str, int]
    plan_index: int
    utc_us: int
    mono_us: int
    boot_number: int
    ramp_ms: int = 0  # how long its ramps take from ``utc_us`` on …
    ramps: Mapping[str, int] = field(default_factory=dict)  # … in 0.1 %/s, of each slave
    slowed: bool = False  # a ramp is slower than the site's
    q_var: Mapping[str, int] = field(default_factory=dict)
    stepping: bool = False  # more steps follow, without waiting for the next correction

    @property
    def moves_power(self) -> bool:
        """Any setpoint other than zero."""
        return any(self.setpoints.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The last instruction that the station was not seen to carry out as it was sent."""

    instr_id: int
    setpoints: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The gateway's own state from this instant on, and why."""

    utc_us: int
    state: str
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """Setpoints that a person asked for; they end by themselves."""

    setpoints: Mapping[str, int]
    until_ms: int
    user: str
    since_us: int = 0  # when he asked: what is held from before ends with its own time-to-live


def reasons_from(items: list[Fields]) -> tuple[Reason, ...]:
    """Read reasons as the ledger carries them."""
    return tuple(
        Reason(code=ReasonCode(item["code"]), detail=item.get("detail", "")) for item in items
    )


def interval_from(fields: Fields) -> Interval:
    """Read an interval as the ledger carries it."""
    return Interval(utc_ms_from(fields["start"]), utc_ms_from(fields["end"]))
