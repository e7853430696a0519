"""The recent past as the views need it: a fold of the ledger's entries, bounded in size.

It never feeds control or settlement: a figure of a running interval is an estimate for eyes, and
the delivery entry replaces it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gateway.core.state import State
from gateway.hmi.alarms import priority
from gateway.hmi.figures import utc_us
from gateway.hmi.state import AlarmView, RefusedView, TradeView

Entry = Mapping[str, Any]
ROWS_MAX = 600  # six days of a hundred quarter hours; the ledger has the rest
BRIDGED_US_MAX = 60_000_000  # an older reading says nothing about now
REFUSED_MAX = 50  # a market that is refused more often is called, not scrolled
CLEARED_MAX = 50  # alarms that went, kept for the list


class DayBook:
    """Trades, energies, alarms and the gateway's own state, from every entry in order."""

    def __init__(self) -> None:
        """Start with an empty ledger."""
        self.size = 0
        self.mode, self.state = "off", "INIT"
        self.reasons: tuple[str, ...] = ()
        self.version, self.config_sha256 = "", ""
        self.started_us: int | None = None
        self.config: Mapping[str, Any] = {}
        self.counters: dict[str, Mapping[str, Any]] = {}
        self.unlisted_us: tuple[int, int] | None = None
        """Starts of the first and the last open interval left out because there were too many."""
        self._rows: dict[tuple[str, int], TradeView] = {}
        self._targets: dict[int, Mapping[str, int]] = {}
        self._starts: dict[int, dict[str, int]] = {}
        self._alarms: dict[str, AlarmView] = {}
        self._places: dict[str, tuple[int | None, int]] = {}
        self._config_index: int | None = None
        self._refused: deque[RefusedView] = deque(maxlen=REFUSED_MAX)

    def take(self, index: int, entry: Entry) -> None:
        """Take one entry in; entries come in ledger order."""
        self.size = index + 1
        match entry["kind"]:
            case "boot":
                self.version, self.started_us = entry["version"], entry["utc_us"]
            case "config":
                self.config, self.config_sha256 = entry["config"], entry["sha256"]
                self._config_index = index
            case "mode":
                self.mode, self.state = entry["mode"], entry["state"]
                self.reasons = tuple(map(_reason, entry["reasons"]))
            case "trade.accepted":
                self._places.setdefault(entry["trade_id"], (self._config_index, index))
                self._accept(entry)
            case "trade.refused":
                told = RefusedView(
                    id=entry["trade_id"] or "",
                    utc_us=entry["utc_us"],
                    reasons=tuple(map(_reason, entry["reasons"])),
                )
                self._refused.appendleft(told)
            case "plan":
                self._plan(entry)
            case "reading":
                self._read(entry)
            case "delivery":
                self._deliver(entry)
            case "alarm":
                self._alarm(entry)
            case "operator" if entry["verb"] == "ack":
                code = entry["arguments"].get("code")
                if code in self._alarms:
                    self._alarms[code] = replace(self._alarms[code], acknowledged=True)
            case _:
                pass

    def begin(self, state: State) -> None:
        """Take over what a start knows besides the past entries: whose meters count, from where.

        What a meter said that is gone is let go of; energies go on from their intervals' starts.
        """
        meters = {t.id: t.meter for t in state.site.sop.terminals}
        for terminal in [t for t, row in self.counters.items() if row["meter"] != meters.get(t)]:
            del self.counters[terminal]
            for first in self._starts.values():
                first.pop(terminal, None)
        for terminal, track in state.readings.items():
            if state.meters.get(terminal) != meters.get(terminal):
                continue
            for start_us, first in self._starts.items():
                place = bisect_left(track, start_us, key=lambda r: r.utc_us)
                if place < len(track) and _is_near(track[place].utc_us, start_us):
                    first.setdefault(terminal, track[place].net_wh)

    def _accept(self, entry: Entry) -> None:
        trade_id = entry["trade_id"]
        replaced = [
            key
            for key, row in self._rows.items()
            if key[0] == trade_id and (row.status == "planned" or _is_called_off(row))
        ]
        for key in replaced:
            del self._rows[key]
        for position in entry["positions"]:
            start_us = utc_us(position["interval"]["start"])
            if (trade_id, start_us) in self._rows:
                continue  # it runs or is delivered already: a revision does not reach back
            self._rows[trade_id, start_us] = TradeView(
                id=trade_id,
                out_terminal=entry["out_terminal"],
                in_terminal=entry["in_terminal"],
                start_us=start_us,
                end_us=utc_us(position["interval"]["end"]),
                contracted_wh=position["energy_wh"],
                status="planned" if position["energy_wh"] else "cancelled",
            )
        self._bound()
        if len(self._places) > 2 * ROWS_MAX:
            known = {trade for trade, _ in self._rows}
            self._places = {t: where for t, where in self._places.items() if t in known}

    def _bound(self) -> None:
        """Let go of what is over, the oldest first, and then of the farthest that is to come."""
        too_many = len(self._rows) - ROWS_MAX
        if too_many <= 0:
            return
        over = [k for k, row in self._rows.items() if not _is_open(row)]
        for key in sorted(over, key=lambda k: self._rows[k].end_us)[:too_many]:
            del self._rows[key]
        too_many = len(self._rows) - ROWS_MAX
        for key in sorted(self._rows, key=lambda k: k[1], reverse=True)[: max(too_many, 0)]:
            first_us, last_us = self.unlisted_us or (key[1], key[1])
            self.unlisted_us = min(first_us, key[1]), max(last_us, key[1])
            del self._rows[key]

    def _plan(self, entry: Entry) -> None:
        start_us = utc_us(entry["interval"]["start"])
        self._targets[start_us] = entry["planned_wh"]
        self._starts[start_us] = {}
        if self.unlisted_us and start_us >= self.unlisted_us[1]:
            self.unlisted_us = None
        for trade in entry["trades"]:
            row = self._rows.get((trade["trade_id"], start_us)) or _planned(trade, entry)
            if row is not None:
                self._rows[row.id, start_us] = replace(
                    row,
                    planned_wh=trade["planned_wh"],
                    reasons=tuple(map(_reason, trade["reasons"])),
                    status="running",
                )
        self._bound()

    def _read(self, entry: Entry) -> None:
        for meter in entry["meters"]:
            if meter["quality"] != "good":
                continue
            terminal, at_us = meter["terminal"], meter["utc_us"]
            before = self.counters.get(terminal)
            exchanged = before is not None and before["meter"] != meter["meter"]
            self.counters[terminal] = meter
            for start_us, first in self._starts.items():
                if exchanged:
                    first.pop(terminal, None)
                if _is_near(at_us, start_us) or (exchanged and at_us >= start_us):
                    first.setdefault(terminal, _net_wh(meter))

    def _deliver(self, entry: Entry) -> None:
        start_us = utc_us(entry["interval"]["start"])
        self._targets.pop(start_us, None)
        self._starts.pop(start_us, None)
        for trade in entry["trades"]:
            row = self._rows.get((trade["trade_id"], start_us))
            if row is not None:
                self._rows[row.id, start_us] = replace(
                    row,
                    planned_wh=trade["planned_wh"],
                    delivered_wh=trade["delivered_wh"],
                    status=trade["status"],
                    reasons=tuple(map(_reason, trade["reasons"])),
                )

    def _alarm(self, entry: Entry) -> None:
        code, before = entry["code"], self._alarms.get(entry["code"])
        if entry["active"]:
            self._alarms[code] = AlarmView(
                code=code,
                priority_level=priority(code),
                since_us=entry["utc_us"],
                detail=entry["detail"],
            )
        elif before is not None:
            self._alarms[code] = replace(before, active=False)
        cleared = [c for c, a in self._alarms.items() if not a.active]
        for code in cleared[: max(len(cleared) - CLEARED_MAX, 0)]:
            del self._alarms[code]

    def places(self, trade_id: str) -> tuple[int | None, int] | None:
        """Return the indices of a trade's configuration and first acceptance.

        Of a trade from before the first known configuration it is the newest, None without any.
        """
        found = self._places.get(trade_id)
        if found is None:
            return None
        config_index, accepted_index = found
        return self._config_index if config_index is None else config_index, accepted_index

    def trades(self, now_us: int, *, around_us: int | None = None) -> tuple[TradeView, ...]:
        """Return the trades in order of time; running ones with an estimate from the meters.

        ``around_us`` leaves out what neither runs now nor begins within so much of now.
        """
        unsettled = {row.id for row in self._rows.values() if _is_open(row)}
        chosen = [
            row
            for row in self._rows.values()
            if around_us is None
            or abs(row.start_us - now_us) < around_us
            or row.start_us <= now_us < row.end_us
        ]
        rows = []
        for row in sorted(chosen, key=lambda r: (r.start_us, r.id)):
            if row.status == "running":
                started = now_us >= row.start_us
                estimate = self._estimate_wh(row, now_us) if started else None
                status = "running" if started else "planned"
                rows.append(replace(row, delivered_wh=estimate, status=status))
            else:
                has_receipt = row.id not in unsettled and row.delivered_wh is not None
                rows.append(replace(row, receipt=has_receipt))
        return tuple(rows)

    def refused(self) -> tuple[RefusedView, ...]:
        """Return the latest refused trades, newest first."""
        return tuple(self._refused)

    def alarms(self) -> tuple[AlarmView, ...]:
        """Return the alarms, those that went included."""
        return tuple(self._alarms.values())

    def _estimate_wh(self, row: TradeView, now_us: int) -> int | None:
        """Return about what a running trade has delivered: its share of its terminals' energy."""
        if row.planned_wh is None or row.start_us not in self._targets:
            return None
        targets = self._targets[row.start_us]
        span_us = row.end_us - row.start_us
        past_us = min(max(now_us - row.start_us, 0), span_us)
        shares_wh = []
        for terminal in (row.out_terminal, row.in_terminal):
            target_wh = targets.get(terminal, 0)
            judged_wh = self._judged_wh(row, terminal, targets, now_us)
            if judged_wh is None:
                return None
            if target_wh:
                shares_wh.append(row.planned_wh * judged_wh // target_wh)
            else:  # its trades cancel out here: nothing flows and nothing can be short
                shares_wh.append(row.planned_wh * past_us // span_us)
        return max(min(shares_wh), 0)

    def _judged_wh(
        self, row: TradeView, terminal: str, targets: Mapping[str, int], now_us: int
    ) -> int | None:
        """Return a terminal's energy since the start; the master's is the others' negative sum."""
        first = self._starts[row.start_us]
        is_master = terminal == self.config.get("master")
        asked = [t for t in targets if t != terminal] if is_master else [terminal]
        if any(t not in first or t not in self.counters for t in asked):
            return None
        until_us = min(now_us, row.end_us)
        total_wh = sum(_net_wh_at(self.counters[t], until_us) - first[t] for t in asked)
        return -total_wh if is_master else total_wh


def _planned(trade: Mapping[str, Any], plan: Entry) -> TradeView | None:
    """Return a trade as its plan tells it, where its acceptance was let go of."""
    if "contracted_wh" not in trade or "out_terminal" not in trade:
        return None
    return TradeView(
        id=trade["trade_id"],
        out_terminal=trade["out_terminal"],
        in_terminal=trade["in_terminal"],
        start_us=utc_us(plan["interval"]["start"]),
        end_us=utc_us(plan["interval"]["end"]),
        contracted_wh=trade["contracted_wh"],
    )


def _is_open(row: TradeView) -> bool:
    return row.status in {"planned", "running"}


def _is_called_off(row: TradeView) -> bool:
    """Whether a revision cancelled it and no delivery was reported yet: another may restore it."""
    return row.status == "cancelled" and row.delivered_wh is None


def _is_near(at_us: int, start_us: int) -> bool:
    """Whether a reading may stand for an interval's start.

    What flowed before a later one nobody knows: no estimate is better than a wrong one.
    """
    return 0 <= at_us - start_us <= BRIDGED_US_MAX


def _net_wh(meter: Mapping[str, Any]) -> int:
    net_wh: int = meter["export_wh"] - meter["import_wh"]
    return net_wh


def _net_wh_at(meter: Mapping[str, Any], now_us: int) -> int:
    """Return the counters' difference, the reading's age bridged with its power."""
    at_us: int = meter["utc_us"]
    p_w: int = meter["p_w"]
    age_us = min(max(now_us - at_us, 0), BRIDGED_US_MAX)
    return _net_wh(meter) + p_w * age_us // 3_600_000_000


def _reason(reason: object) -> str:
    """Return a reason as one text, ``code: detail``, however the entry carries it."""
    if isinstance(reason, Mapping):
        detail = reason.get("detail")
        return f"{reason['code']}: {detail}" if detail else str(reason["code"])
    return str(reason)
