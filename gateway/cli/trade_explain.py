"""The story of one trade told from its ledger: every step with its entry, and why it fell short."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.hmi.language import Words
from gateway.market import dsse
from gateway.model.interval import utc_ms_from
from gateway.model.units import kwh_text, signed_kw_text

Entry = Mapping[str, Any]
LINES_MAX = 4  # instructions of one interval that are told one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One step: the entries that say it and the sentence."""

    first_index: int
    last_index: int
    utc_us: int
    what: str

    def data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "first_index": self.first_index,
            "last_index": self.last_index,
            "utc_us": self.utc_us,
            "what": self.what,
        }

    def text(self) -> str:
        """Write it for people."""
        single = self.first_index == self.last_index
        entries = f"#{self.first_index}" if single else f"#{self.first_index}–#{self.last_index}"
        moment = dt.datetime.fromtimestamp(self.utc_us / 1e6, tz=dt.UTC)
        return f"  {entries:<15} {moment:%Y-%m-%d %H:%M:%S}  {self.what}"


@dataclass(slots=True)
class Explanation:
    """What happened to one trade, and why it is not what was agreed."""

    trade_id: str
    lines: list[Line] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    contracted_wh: int = 0
    delivered_wh: int = 0
    status: str = "received"

    def data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.trade_id,
            "status": self.status,
            "contracted_wh": self.contracted_wh,
            "delivered_wh": self.delivered_wh,
            "steps": [line.data() for line in self.lines],
            "why": list(self.why),
        }

    def text(self) -> str:
        """Write it for people."""
        energies = f"{kwh_text(self.delivered_wh)} of {kwh_text(self.contracted_wh)}"
        head = f"{self.trade_id}   {self.status}   {energies}"
        body = [line.text() for line in self.lines]
        why = [f"Why  {self.why[0]}", *(f"     {w}" for w in self.why[1:])] if self.why else []
        return "\n".join([head, *body, *why])


def explain(entries: Iterable[tuple[int, Entry]], trade_id: str) -> Explanation | None:
    """Tell the story of a trade; None when the ledger does not know it."""
    teller = _Teller(trade_id)
    for index, entry in entries:
        teller.take(index, entry)
    return teller.told if teller.told.lines else None


class _Teller:
    """Goes through the ledger once; remembers what an own entry may refer to."""

    def __init__(self, trade_id: str) -> None:
        self.told = Explanation(trade_id)
        self._id = trade_id
        self._words = Words("en")
        self._signers: dict[str, str] = {}
        self._received: dict[int, Entry] = {}
        self._plans: dict[int, Entry] = {}
        self._intents: dict[int, tuple[int, Entry]] = {}
        self._count = 0
        self._windows: list[tuple[int, int]] = []  # UTC in us, own planned intervals
        self._state = ""

    def take(self, index: int, entry: Entry) -> None:
        """Take one entry."""
        match entry["kind"]:
            case "config":
                self._signers = {
                    dsse.keyid(base64.b64decode(s["key"])): s["name"]
                    for s in entry["config"].get("signers", ())
                }
            case "trade.received":
                self._received[index] = entry
            case "trade.accepted" | "trade.refused" if entry["trade_id"] == self._id:
                self._decided(index, entry)
            case "plan":
                self._plan(index, entry)
            case "intent" if entry["plan_index"] in self._plans:
                self._intents[index] = (index, entry)
            case "abort" | "outcome" if entry["intent_index"] in self._intents:
                self._ended(index, entry)
            case "mode":
                self._mode(index, entry)
            case "readback" if entry["cause"] in ("failsafe", "foreign", "differs"):
                self._readback(index, entry)
            case "operator" if entry["verb"] in ("stop", "arm", "mode", "limits"):
                self._order(index, entry)
            case "delivery":
                self._delivery(index, entry)
            case _:
                pass

    def _say(self, index: int, entry: Entry, what: str, *, first: int | None = None) -> None:
        self.told.lines.append(
            Line(
                first_index=index if first is None else first,
                last_index=index,
                utc_us=entry["utc_us"],
                what=what,
            )
        )

    def _decided(self, index: int, entry: Entry) -> None:
        received = self._received.get(entry["received_index"])
        if received is not None:
            retained = ", retained" if received["retain"] else ""
            signed = ", ".join(self._signed(received)) or "nobody known"
            what = f"received {received['size']} bytes{retained}, signed by {signed}"
            self._say(entry["received_index"], received, what)
        if entry["kind"] == "trade.accepted":
            told = self.told
            told.contracted_wh = sum(p["energy_wh"] for p in entry["positions"])
            told.status = "accepted" if told.contracted_wh else "cancelled"
            path = f"{entry['out_terminal']} → {entry['in_terminal']}"
            first, last = entry["positions"][0], entry["positions"][-1]
            span = f"{first['interval']['start']} to {last['interval']['end']}"
            what = f"accepted, revision {entry['revision']}: {path}, {kwh_text(told.contracted_wh)}"
            self._say(index, entry, f"{what}, {span}")
            return
        reasons = "; ".join(self._words.reason(r) for r in entry["reasons"])
        self._say(index, entry, f"refused: {reasons}")
        if self.told.status == "received":
            self.told.status = "refused"
        again = "" if self.told.status == "refused" else "a later message was "
        self.told.why.append(f"{again}refused (#{index}): {reasons}")

    def _signed(self, received: Entry) -> list[str]:
        try:
            message = json.loads(base64.b64decode(received.get("payload", "")))
            keyids = [s["keyid"] for s in message["signatures"]]
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
            return []
        return [self._signers.get(k, f"unknown key {str(k)[:8]}…") for k in keyids]

    def _plan(self, index: int, entry: Entry) -> None:
        mine = next((t for t in entry["trades"] if t["trade_id"] == self._id), None)
        if mine is None:
            return
        self._plans[index] = entry
        self._count = 0
        start_us = utc_ms_from(entry["interval"]["start"]) * 1000
        self._windows.append((start_us, utc_ms_from(entry["interval"]["end"]) * 1000))
        cut_wh = mine["contracted_wh"] - mine["planned_wh"]
        what = f"planned {kwh_text(mine['planned_wh'])} from {entry['interval']['start']}"
        if cut_wh:
            reasons = "; ".join(self._words.reason(r) for r in mine["reasons"])
            what += f", {kwh_text(cut_wh)} less than agreed: {reasons}"
            self.told.why.append(f"{kwh_text(cut_wh)} were cut when planning (#{index}): {reasons}")
        self._say(index, entry, what)

    def _ended(self, index: int, entry: Entry) -> None:
        intent_index, intent = self._intents.pop(entry["intent_index"])
        ended = "aborted" if entry["kind"] == "abort" else entry["outcome"]
        self._count += 1
        usual = intent["authority"] == "tracking" and ended == "executed" and not entry["reasons"]
        if usual and self._count > LINES_MAX:
            self._fold(index, entry)
            return
        mine = self._terminals(intent["plan_index"])
        powers = ", ".join(
            f"{s['terminal']} {signed_kw_text(s['p_w'])}"
            for s in intent["setpoints"]
            if s["terminal"] in mine
        )
        reasons = "; ".join(self._words.reason(r) for r in entry["reasons"])
        why = f" ({reasons})" if reasons else ""
        name = f"instruction {intent['instr_id']:#010x} ({intent['authority']})"
        what = f"{name}: {powers}: {ended}{why}"
        self._say(index, entry, what, first=intent_index)

    def _fold(self, index: int, entry: Entry) -> None:
        """Tell the many corrections of an interval as one line that grows."""
        last = self.told.lines[-1]
        grown = last.what.startswith("corrections by meter")
        first = last.first_index if grown else index
        if grown:
            self.told.lines.pop()
        count = self._count - LINES_MAX
        self._say(index, entry, f"corrections by meter, all executed: {count}", first=first)

    def _terminals(self, plan_index: int) -> set[str]:
        trades = self._plans[plan_index]["trades"]
        mine = next(t for t in trades if t["trade_id"] == self._id)
        return {mine["out_terminal"], mine["in_terminal"]}

    def _during(self, utc_us: int) -> bool:
        return any(start <= utc_us < end for start, end in self._windows)

    def _mode(self, index: int, entry: Entry) -> None:
        before, self._state = self._state, entry["state"]
        if self._during(entry["utc_us"]) and entry["state"] != before:
            reasons = "; ".join(self._words.reason(r) for r in entry["reasons"])
            self._say(
                index, entry, f"gateway {entry['state']}" + (f": {reasons}" if reasons else "")
            )

    def _readback(self, index: int, entry: Entry) -> None:
        if self._during(entry["utc_us"]):
            words = {
                "failsafe": "the converter went to zero by itself",
                "foreign": "the converter holds somebody else's setpoint",
                "differs": "the converter holds an instruction otherwise than sent; it is stopped",
            }
            self._say(index, entry, f"read back: {words[entry['cause']]}")

    def _order(self, index: int, entry: Entry) -> None:
        if self._during(entry["utc_us"]):
            self._say(index, entry, f"{entry['user']} ordered: {entry['verb']}")

    def _delivery(self, index: int, entry: Entry) -> None:
        mine = next((t for t in entry["trades"] if t["trade_id"] == self._id), None)
        if mine is None:
            return
        told = self.told
        told.delivered_wh += mine["delivered_wh"]
        told.status = mine["status"] if told.status in ("accepted", mine["status"]) else "partial"
        energies = f"{kwh_text(mine['delivered_wh'])} of {kwh_text(mine['contracted_wh'])}"
        what = f"settled by meter: {energies} until {entry['interval']['end']}, {mine['status']}"
        self._say(index, entry, what)
        short_wh = mine["planned_wh"] - mine["delivered_wh"]
        reasons = _distinct(self._words.reason(r) for r in mine["reasons"])
        if mine["status"] != "delivered" and short_wh > 0:
            because = "; ".join(reasons) or "no reason was recorded"
            told.why.append(
                f"{kwh_text(short_wh)} of the plan were not delivered (#{index}): {because}"
            )


def _distinct(words: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(words))
