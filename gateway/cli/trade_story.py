"""What a ledger says about each trade, put into order for ``sopgw trade ls`` and ``show``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.model.units import kwh_text, signed_kw_text
from ledger.log import reader

_COLUMNS = ("trade", "rev", "path", "contracted", "delivered", "status")


@dataclass(frozen=True, slots=True)
class Step:
    """One entry that concerns a trade."""

    index: int
    entry: Mapping[str, Any]

    def data(self) -> dict[str, Any]:
        """Return the entry with its index."""
        return {"index": self.index, **self.entry}


@dataclass(slots=True, kw_only=True)
class Story:
    """One trade: its newest accepted revision and what was delivered of it."""

    id: str
    revision_number: int = 0
    seller: str = ""
    buyer: str = ""
    contracted_wh: int = 0
    delivered_wh: int = 0
    status: str = "received"
    reasons: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {
            "id": self.id,
            "revision": self.revision_number,
            "seller_terminal": self.seller,
            "buyer_terminal": self.buyer,
            "contracted_wh": self.contracted_wh,
            "delivered_wh": self.delivered_wh,
            "status": self.status,
            "reasons": list(self.reasons),
        }


def read(directory: Path) -> dict[str, Story]:
    """Return the stories of a ledger directory by trade id, in order of appearance."""
    parsed = ((index, json.loads(leaf)) for index, leaf in reader.entries(directory))
    return stories(parsed)


def stories(entries: Iterable[tuple[int, Mapping[str, Any]]]) -> dict[str, Story]:
    """Put entries into stories. A refusal leaves an accepted trade as it was."""
    found: dict[str, Story] = {}
    received: dict[int, Step] = {}
    plans: dict[int, list[Story]] = {}
    for index, entry in entries:
        step = Step(index, entry)
        match entry.get("kind"):
            case "trade.received":
                received[index] = step
            case "trade.accepted" | "trade.refused":
                _decided(found, received, step)
            case "plan":
                plans[index] = [found[t["trade_id"]] for t in entry["trades"]
                                if t["trade_id"] in found]  # fmt: skip
                for story in plans[index]:
                    story.steps.append(step)
            case "intent":
                for story in plans.get(entry["plan_index"], ()):
                    story.steps.append(step)
            case "delivery":
                _delivered(found, step)
            case _:
                pass
    return found


def _decided(found: dict[str, Story], received: Mapping[int, Step], step: Step) -> None:
    entry = step.entry
    name = entry["trade_id"] or f"message in entry {entry['received_index']}"
    story = found.setdefault(name, Story(id=name))
    message = received.get(entry["received_index"])
    if message is not None and message not in story.steps:
        story.steps.append(message)
    story.steps.append(step)
    if entry["kind"] == "trade.accepted":
        story.revision_number = entry["revision"]
        story.seller, story.buyer = entry["out_terminal"], entry["in_terminal"]
        story.contracted_wh = sum(p["energy_wh"] for p in entry["positions"])
        cancelled = not any(p["p_w"] for p in entry["positions"])
        story.status = "cancelled" if cancelled else "accepted"
    elif story.revision_number == 0:
        story.status = "refused"
        story.reasons = [r["code"] for r in entry["reasons"]]


def _delivered(found: Mapping[str, Story], step: Step) -> None:
    for trade in step.entry["trades"]:
        story = found.get(trade["trade_id"])
        if story is None:
            continue
        story.steps.append(step)
        story.delivered_wh += trade["delivered_wh"]
        story.statuses.append(trade["status"])
        story.reasons += [r for r in trade["reasons"] if r not in story.reasons]
        alike = len(set(story.statuses)) == 1
        story.status = story.statuses[0] if alike else "partial"


def table(found: Iterable[Story]) -> str:
    """Write stories as a table for people."""
    rows = [_COLUMNS]
    for s in found:
        path = f"{s.seller} → {s.buyer}" if s.seller else ""
        words = " ".join(dict.fromkeys([s.status, *s.reasons]))
        energies = (kwh_text(s.contracted_wh), kwh_text(s.delivered_wh)) if s.seller else ("", "")
        rows.append((s.id, str(s.revision_number or ""), path, *energies, words))
    widths = [max(len(row[c]) for row in rows) for c in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def lines(story: Story) -> Iterator[str]:
    """Tell one story, a line a step with its ledger index."""
    path = f"  {story.seller} → {story.buyer}" if story.seller else ""
    yield f"{story.id}  revision {story.revision_number}{path}  {story.status}"
    for step in story.steps:
        moment = dt.datetime.fromtimestamp(step.entry["utc_us"] / 1e6, tz=dt.UTC)
        yield f"  #{step.index:<7} {moment:%Y-%m-%d %H:%M:%S}  {_words(story, step.entry)}"


def _words(story: Story, entry: Mapping[str, Any]) -> str:
    match entry["kind"]:
        case "trade.received":
            return f"received, {entry['size']} bytes{', retained' if entry['retain'] else ''}"
        case "trade.accepted":
            energy = kwh_text(sum(p["energy_wh"] for p in entry["positions"]))
            return f"accepted revision {entry['revision']}, {energy}"
        case "trade.refused":
            told = (f"{r['code']} {r['detail']}".strip() for r in entry["reasons"])
            return f"refused: {'; '.join(told)}"
        case "plan":
            mine = next(t for t in entry["trades"] if t["trade_id"] == story.id)
            words = ", ".join(r["code"] for r in mine["reasons"])
            cut = f", curtailed by {words}" if words else ""
            return f"planned {kwh_text(mine['planned_wh'])} from {entry['interval']['start']}{cut}"
        case "intent":
            powers = ", ".join(
                f"{s['terminal']} {signed_kw_text(s['p_w'])}" for s in entry.get("setpoints", ())
            )
            what = powers or entry.get("command", "")
            return f"instruction {entry['instr_id']} ({entry['authority']}): {what}"
        case _:
            mine = next(t for t in entry["trades"] if t["trade_id"] == story.id)
            words = " ".join(dict.fromkeys([mine["status"], *mine["reasons"]]))
            of = f"{kwh_text(mine['delivered_wh'])} of {kwh_text(mine['contracted_wh'])}"
            return f"delivered {of} until {entry['interval']['end']}: {words}"
