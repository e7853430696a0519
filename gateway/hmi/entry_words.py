"""One entry of the ledger in a few words, for lists on a screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.model.units import kwh_text, signed_kw_text

WORDS_MAX = 160


def entry_words(entry: Mapping[str, Any]) -> str:
    """Return what an entry says, short; the entry itself has all."""
    return _words(entry)[:WORDS_MAX]


def _words(entry: Mapping[str, Any]) -> str:
    match entry["kind"]:
        case "boot":
            return f"start {entry['boot']}, version {entry['version']}"
        case "mode":
            reasons = ", ".join(_code(r) for r in entry["reasons"])
            return f"mode {entry['mode']}, {entry['state']}" + (f": {reasons}" if reasons else "")
        case "alarm":
            return f"{entry['code']} {'came' if entry['active'] else 'went'} {entry['detail']}"
        case "operator":
            return f"{entry['user']} {entry['verb']} {entry['reason']}".strip()
        case "trade.received":
            return f"{entry['size']} bytes" + (", retained" if entry["retain"] else "")
        case "trade.accepted":
            energy_wh = sum(p["energy_wh"] for p in entry["positions"])
            return f"{entry['trade_id']} {kwh_text(energy_wh)}"
        case "trade.refused":
            return f"{entry['trade_id']}: {', '.join(_code(r) for r in entry['reasons'])}"
        case "plan":
            return f"{entry['interval']['start']}: {len(entry['trades'])} trades"
        case "intent":
            powers = ", ".join(
                f"{s['terminal']} {signed_kw_text(s['p_w'])}" for s in entry["setpoints"]
            )
            return f"{entry['authority']}: {powers or entry.get('command', '')}"
        case "outcome":
            return f"{entry['outcome']} of #{entry['intent_index']}"
        case "delivery":
            told = ", ".join(f"{t['trade_id']} {t['status']}" for t in entry["trades"])
            return told or "nothing traded"
        case "reading":
            return ", ".join(f"{m['terminal']} {signed_kw_text(m['p_w'])}" for m in entry["meters"])
        case _:
            return ""


def _code(reason: Any) -> str:
    return str(reason["code"]) if isinstance(reason, Mapping) else str(reason)
