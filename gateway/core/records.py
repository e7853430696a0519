"""What the state is made of: one small record for each thing the ledger can say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.dispatch import Phase
from gateway.core.envelope import Planned
from gateway.core.netting import Leg
from gateway.core.verify import Known, MarketPolicy
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.reason import Reason, ReasonCode
from gateway.model.terminal import Sop
from gateway.model.trade import Position, Trade

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
    target_wh: Mapping[str, int]  # of every terminal the site has
    available_va: Mapping[str, int] = field(default_factory=dict)  # by which it was made
    void: bool = False  # plans energy at a terminal that the site no longer has


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
    lost: bool = False  # sets power at a terminal that the site no longer has
    phase: Phase = Phase.INTENDED

    @property
    def never_left(self) -> bool:
        """Whether nothing was carried out for sure: without a durable commit OPERATE never left.

        Only a session at a commissioning writes none, so of its intents that is not known; nor of
        a setpoint by hand, which looks the same. Reading the device tells.
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
    lost: bool = False  # power was set at a terminal that the site no longer has

    @property
    def moves_power(self) -> bool:
        """Any setpoint other than zero."""
        return self.lost or any(self.setpoints.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The last instruction that the station was not seen to carry out as it was sent."""

    instr_id: int
    setpoints: Mapping[str, int]

    def is_held(self, instr_id: int, holds_w: Mapping[str, int], slaves: Iterable[str]) -> bool:
        """Whether a station holds it after all: cut, or only late.

        The id alone does not say so: a SELECT that came late shows another one.
        """
        same = all(holds_w.get(t) == self.setpoints[t] for t in slaves)
        return instr_id == self.instr_id != 0 or same


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


def with_limits(site: Site, bounds: Sop | None, arguments: Fields) -> Site:
    """Change what a terminal may carry, within what the site file allows (``bounds``)."""
    name, low_w, high_w = (arguments[k] for k in ("terminal", "p_w_min", "p_w_max"))
    known = {t.id: t for t in (bounds or site.sop).terminals}
    if name not in known:
        return site  # the site file was changed since
    if bounds is not None:
        low_w, high_w = max(low_w, known[name].p_w_min), min(high_w, known[name].p_w_max)
    return replace(site, sop=site.sop.limited(name, p_w_min=low_w, p_w_max=high_w))


def of_each(sop: Sop, values: Mapping[str, int]) -> dict[str, int]:
    """The values of a SOP's terminals as it is now: 0 at one that is new, none of one that went."""
    return {t.id: values.get(t.id, 0) for t in sop.terminals}


def loses_power(sop: Sop, values: Mapping[str, int]) -> bool:
    """Whether any value other than zero is of a terminal that the SOP no longer has."""
    return any(values[t] for t in values.keys() - {t.id for t in sop.terminals})


def known_from(index: int, entry: Fields, site: Site) -> Known:
    """Read a trade that was accepted as the ledger carries it."""
    domains = {t.id: t.domain for t in site.sop.terminals}
    trade = Trade(
        id=entry["trade_id"],
        revision_number=entry["revision"],
        sop=site.sop.id,
        out_domain=domains.get(entry["out_terminal"], ""),  # "" of one the site no longer has
        in_domain=domains.get(entry["in_terminal"], ""),
        positions=tuple(
            Position(interval=interval_from(p["interval"]), p_w=p["p_w"], energy_wh=p["energy_wh"])
            for p in entry["positions"]
        ),
    )
    return Known(
        revision_number=trade.revision_number,
        sha256=entry["sha256"],
        accepted_index=index,
        trade=trade,
    )


def plan_from(index: int, entry: Fields, sop: Sop) -> PlanRecord:
    """Read a plan as the ledger carries it, for the terminals that the site has now."""
    planned = tuple(
        Planned(
            leg=Leg(
                trade_id=t["trade_id"],
                revision_number=t["revision"],
                out_terminal=t["out_terminal"],
                in_terminal=t["in_terminal"],
                energy_wh=t["contracted_wh"],
            ),
            planned_wh=t["planned_wh"],
            reasons=reasons_from(t["reasons"]),
        )
        for t in entry["trades"]
    )
    target_wh = of_each(sop, entry["planned_wh"])
    return PlanRecord(
        index=index,
        interval=interval_from(entry["interval"]),
        planned=planned,
        target_wh=target_wh,
        available_va=entry.get("s_va_available") or {t.id: t.s_va for t in sop.terminals},
        void=any(p.planned_wh and not p.leg.within(target_wh) for p in planned),
    )


def reasons_from(items: list[Fields]) -> tuple[Reason, ...]:
    """Read reasons as the ledger carries them."""
    return tuple(
        Reason(code=ReasonCode(item["code"]), detail=item.get("detail", "")) for item in items
    )


def interval_from(fields: Fields) -> Interval:
    """Read an interval as the ledger carries it."""
    return Interval(utc_ms_from(fields["start"]), utc_ms_from(fields["end"]))
