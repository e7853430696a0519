"""What the ledger's entries tell over time: power set and measured, DC voltage, instructions.

Pure readers of decoded entries (docs/entries.md). They show what was recorded and nothing else:
a set value counts from the outcome ``executed`` of its intent, for as long as it was valid.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.hmi.svg import Point

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructionLine:
    """One instruction as a line of the report: what was wanted and what came of it."""

    index: int
    utc_us: int
    authority: str
    setpoints_w: tuple[tuple[str, int], ...]
    outcome: str
    reasons: tuple[str, ...]


def of_kind(entries: Iterable[Entry], kind: str) -> list[Entry]:
    """Return the entries of one kind in ledger order."""
    return [e for e in entries if e.get("kind") == kind]


def configuration(entries: Sequence[Entry]) -> Mapping[str, Any]:
    """Return the last effective configuration in the ledger, empty when there is none."""
    found = of_kind(entries, "config")
    config = found[-1].get("config", {}) if found else {}
    return config if isinstance(config, Mapping) else {}


def terminals(entries: Sequence[Entry]) -> list[str]:
    """Return the terminals in the order of the configuration, else as the readings name them."""
    named = [str(t["id"]) for t in configuration(entries).get("terminals", ())]
    if named:
        return named
    seen: dict[str, None] = {}
    for entry in of_kind(entries, "reading"):
        seen.update((str(m["terminal"]), None) for m in entry["meters"])
    return list(seen)


def power_set(entries: Sequence[Entry], terminal: str) -> list[Point]:
    """Return the executed set power of a terminal in kW as steps; the master's is the residual.

    The line breaks where the set value had expired or nobody knows whether it was carried out.
    """
    master = configuration(entries).get("master")
    intents = {e["index"]: e for e in of_kind(entries, "intent")}
    points: list[Point] = []
    expires_us: int | None = None
    for entry in of_kind(entries, "outcome"):
        at = entry["utc_us"]
        if expires_us is not None and expires_us < at:
            points.append((expires_us, None))
            expires_us = None
        intent = intents.get(entry["intent_index"])
        # A command carries no setpoints: it sets nothing, and the master's is no sum of none.
        if not (intent and intent["setpoints"]) or entry["outcome"] not in {"executed", "unknown"}:
            continue
        if entry["outcome"] == "unknown":
            points.append((at, None))
            continue
        wanted = {str(s["terminal"]): int(s["p_w"]) for s in intent["setpoints"]}
        if terminal == master:
            points.append((at, -sum(w for t, w in wanted.items() if t != master) / 1000))
        elif terminal in wanted:
            points.append((at, wanted[terminal] / 1000))
        if intent.get("ttl_s", 0) > 0:
            expires_us = at + intent["ttl_s"] * 1_000_000
    return _until(points, entries, expires_us)


def _until(points: list[Point], entries: Sequence[Entry], expires_us: int | None) -> list[Point]:
    """Carry the last set value on to its expiry or to the last reading."""
    if not points or points[-1][1] is None or not entries:
        return points
    last = entries[-1]["utc_us"]
    end = min(last, expires_us) if expires_us is not None else last
    return [*points, (end, points[-1][1])] if end > points[-1][0] else points


def power_measured(entries: Sequence[Entry], terminal: str) -> list[Point]:
    """Return the metered power of a terminal in kW; a reading that is not good breaks the line."""
    return [
        (m["utc_us"], m["p_w"] / 1000 if m.get("quality", "good") == "good" else None)
        for entry in of_kind(entries, "reading")
        for m in entry["meters"]
        if m["terminal"] == terminal
    ]


def energy(entries: Sequence[Entry], terminal: str, *, start_us: int, end_us: int) -> list[Point]:
    """Return the judged energy of a terminal in kWh since the first good reading of a window.

    The master is judged on the negative sum of the others, as settlement does: of it there is a
    point once each of them was read again, for a meter that answers late stands in the next entry.
    """
    is_master = configuration(entries).get("master") == terminal
    asked = {t for t in terminals(entries) if t != terminal} if is_master else {terminal}
    first_wh: int | None = None
    counts_wh: dict[str, int] = {}
    points: list[Point] = []
    for entry in of_kind(entries, "reading"):
        own = [m for m in entry["meters"] if m["terminal"] in asked]
        if not own or not start_us <= (at := own[0]["utc_us"]) <= end_us:
            continue
        if any(m.get("quality", "good") != "good" or "export_wh" not in m for m in own):
            points.append((at, None))
            counts_wh.clear()
            continue
        counts_wh.update((m["terminal"], m["export_wh"] - m["import_wh"]) for m in own)
        if counts_wh.keys() < asked:
            continue
        count_wh = sum(counts_wh.values()) * (-1 if is_master else 1)
        counts_wh.clear()
        first_wh = count_wh if first_wh is None else first_wh
        points.append((at, (count_wh - first_wh) / 1000))
    return points


def planned_energy(entries: Sequence[Entry], terminal: str) -> list[tuple[str, str, int]]:
    """Return start, end and planned Wh of a terminal for each interval that has a plan."""
    return [
        (e["interval"]["start"], e["interval"]["end"], int(e["planned_wh"][terminal]))
        for e in of_kind(entries, "plan")
        if terminal in e.get("planned_wh", {})
    ]


def dc_voltage(
    entries: Sequence[Entry], truth: Sequence[Mapping[str, Any]] | None = None
) -> list[Point]:
    """Return the DC voltage in V from the read-backs, else from the simulator's own trace."""
    recorded: list[Point] = [
        (e["utc_us"], e["v_dc_dv"] / 10)
        for e in of_kind(entries, "readback")
        if e.get("v_dc_dv") is not None
    ]
    if recorded:
        return recorded
    return [(r["utc_us"], r["v_dc_dv"] / 10) for r in truth or () if r.get("v_dc_dv") is not None]


def instructions(entries: Sequence[Entry]) -> list[InstructionLine]:
    """Return every instruction with its outcome; one without an outcome says ``none``."""
    outcomes = {e["intent_index"]: e for e in of_kind(entries, "outcome")}
    return [
        InstructionLine(
            index=e["index"],
            utc_us=e["utc_us"],
            authority=str(e.get("authority", "")),
            setpoints_w=tuple((str(s["terminal"]), int(s["p_w"])) for s in e["setpoints"]),
            outcome=str(outcomes.get(e["index"], {}).get("outcome", "none")),
            reasons=tuple(map(str, outcomes.get(e["index"], {}).get("reasons", ()))),
        )
        for e in of_kind(entries, "intent")
    ]


def evidence(entries: Sequence[Entry], trade_id: str, interval_start: str | None) -> list[int]:
    """Return the indices of a trade's acceptance, plan and delivery for one interval."""
    found: list[int] = []
    for entry in entries:
        kind = entry.get("kind")
        if kind == "trade.accepted" and entry.get("trade_id") == trade_id:
            found.append(entry["index"])
        elif kind in {"plan", "delivery"} and (
            interval_start is None or entry["interval"]["start"] == interval_start
        ):
            if any(t.get("trade_id") == trade_id for t in entry["trades"]):
                found.append(entry["index"])
        elif kind == "trade.refused" and entry.get("trade_id") == trade_id and not interval_start:
            found.append(entry["index"])
    return found


def counts(entries: Iterable[Entry]) -> list[tuple[str, int]]:
    """Return how many entries of each kind there are, most frequent first."""
    kinds = Counter(str(e.get("kind", "?")) for e in entries)
    return sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
