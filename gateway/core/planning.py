"""Which intervals are due for a plan or a delivery report, and what those entries say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.core.delivery import Delivery, Status, report
from gateway.core.envelope import Planned, curtail
from gateway.core.state import PlanRecord, State
from gateway.model.interval import Interval, utc_text
from gateway.model.reason import Reason, ReasonCode

ARM_MS = 30_000  # a plan is made this long before its interval
SETTLE_MS = 60_000  # how long after its end an interval waits for the last meter reading
ENTRY_BYTES_MAX = 65_000  # of a plan or delivery: what the ledger takes, less what it adds itself
WORDS_MAX = 8  # reasons of one trade in a delivery that would be longer than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Fields of a ``plan`` entry."""

    interval: Interval
    fields: Mapping[str, Any]


def interval_fields(interval: Interval) -> dict[str, str]:
    """Write an interval as the ledger carries it."""
    return {"start": utc_text(interval.start_ms), "end": utc_text(interval.end_ms)}


def plans_due(state: State, *, utc_ms: int, available_va: Mapping[str, int]) -> list[Plan]:
    """Return a plan for every interval whose time has come; an interval is planned once."""
    due = sorted(
        i for i in state.schedule if i.start_ms - utc_ms <= ARM_MS and i.start_ms not in state.plans
    )
    return [_plan(state, interval, utc_ms, available_va) for interval in due]


def _plan(state: State, interval: Interval, utc_ms: int, available_va: Mapping[str, int]) -> Plan:
    sop = state.site.sop
    legs = sorted(state.schedule[interval].values(), key=lambda leg: leg.trade_id)
    if interval.end_ms <= utc_ms:
        missed = Reason(code=ReasonCode.GATEWAY_RESTART, detail="no gateway ran in this interval")
        planned = tuple(Planned(leg=leg, planned_wh=0, reasons=(missed,)) for leg in legs)
    else:
        planned = curtail(
            legs,
            sop=sop,
            interval=interval,
            available_va=available_va,
            limits=state.feeder_limits,
        )
    target_wh = {
        t.id: sum(p.leg.sign_at(t.id) * p.planned_wh for p in planned) for t in sop.terminals
    }
    assert sum(target_wh.values()) == 0
    setpoints = {
        t.id: 0 if t.id == sop.master else target_wh[t.id] * 3_600_000 // interval.duration_ms
        for t in sop.terminals
    }
    fields: dict[str, Any] = {
        "sop": sop.id,
        "interval": interval_fields(interval),
        "setpoints": setpoints,
        "planned_wh": target_wh,
        "s_va_available": dict(available_va),
        "trades": [
            {
                "trade_id": p.leg.trade_id,
                "revision": p.leg.revision_number,
                "out_terminal": p.leg.out_terminal,
                "in_terminal": p.leg.in_terminal,
                "contracted_wh": p.leg.energy_wh,
                "planned_wh": p.planned_wh,
                "reasons": [r.fields() for r in p.reasons],
            }
            for p in planned
        ],
    }
    if not _fits(fields):
        _say_once(fields["trades"])
    if not _fits(fields):
        _say_nothing(fields["trades"])
    return Plan(interval=interval, fields=fields)


def _fits(fields: Mapping[str, Any]) -> bool:
    """Whether the ledger takes these fields as one entry; it would refuse, and all would stop."""
    return len(json.dumps(fields, separators=(",", ":"))) <= ENTRY_BYTES_MAX


def _say_once(rows: Sequence[Mapping[str, Any]]) -> None:
    """Leave a detail to the first trade that has it; the words stay with every trade."""
    said: set[tuple[str, str]] = set()
    for reason in (r for row in rows for r in row["reasons"]):
        told = (reason["code"], reason["detail"])
        if told in said:
            reason["detail"] = ""
        said.add(told)


def _say_nothing(rows: Sequence[Mapping[str, Any]]) -> None:
    """Leave every detail out: more terminals with long causes than anybody has."""
    for row in rows:
        for reason in row["reasons"]:
            reason["detail"] = ""


def deliveries_due(state: State, *, utc_ms: int) -> list[PlanRecord]:
    """Plans whose interval is over and whose meters were read after it, or waited for in vain."""
    due = []
    for record in sorted(state.plans.values(), key=lambda r: r.interval):
        end_us = record.interval.end_ms * 1000
        if utc_ms < record.interval.end_ms:
            continue
        read = all(
            state.readings.get(t.id) and state.readings[t.id][-1].utc_us >= end_us
            for t in state.site.sop.terminals
        )
        if read or utc_ms >= record.interval.end_ms + SETTLE_MS:
            due.append(record)
    return due


def delivery_fields(state: State, record: PlanRecord) -> dict[str, Any]:
    """Settle one interval and write it as its ``delivery`` entry; reasons are words."""
    settled = report(
        sop=state.site.sop,
        interval=record.interval,
        planned=record.planned,
        readings=state.readings,
    )
    causes = [r.code.value for r in state.reasons_during(record.interval)]
    if record.void:
        causes.append(ReasonCode.UNKNOWN_DOMAIN.value)
    cut = state.derated.get(record.index, set())
    derated = {
        p.leg.trade_id: [ReasonCode.DERATED.value]
        if cut & {p.leg.in_terminal, p.leg.out_terminal}
        else []
        for p in record.planned
    }
    narrowed = state.narrowed.get(record.index, {})
    reasons_of = {p.leg.trade_id: [r.code.value for r in p.reasons] for p in record.planned}
    fields: dict[str, Any] = {
        "sop": state.site.sop.id,
        "interval": interval_fields(record.interval),
        "terminals": [
            {
                "terminal": t.terminal,
                "planned_wh": t.planned_wh,
                "metered_wh": t.metered_wh,
                "judged_wh": t.judged_wh,
                "flags": list(t.flags),
            }
            for t in settled.terminals
        ],
        "trades": [
            {
                "trade_id": d.trade_id,
                "contracted_wh": d.contracted_wh,
                "planned_wh": d.planned_wh,
                "delivered_wh": d.delivered_wh,
                "status": d.status.value,
                "reasons": _reasons(
                    settled,
                    d.trade_id,
                    reasons_of[d.trade_id],
                    [*causes, *derated[d.trade_id], *narrowed.get(d.trade_id, ())],
                ),
            }
            for d in settled.trades
        ],
        "loss_wh": settled.loss_wh,
        "unscheduled_wh": settled.unscheduled_wh,
    }
    if not _fits(fields):
        for row in fields["trades"]:
            del row["reasons"][WORDS_MAX:]
    return fields


def _reasons(settled: Delivery, trade_id: str, planned: list[str], causes: list[str]) -> list[str]:
    trade = next(d for d in settled.trades if d.trade_id == trade_id)
    words = list(planned)
    if trade.status is Status.CANCELLED:
        return [ReasonCode.CANCELLED.value]
    if trade.unmetered:
        words.append(ReasonCode.UNMETERED.value)
    # What was curtailed explains itself; only what is missing beyond it needs the causes.
    followed = trade.planned_wh > 0 and trade.delivered_wh * 1000 >= trade.planned_wh * 995
    if trade.status is not Status.DELIVERED and not followed:
        words += causes or [ReasonCode.SHORTFALL.value]
    return list(dict.fromkeys(words))
