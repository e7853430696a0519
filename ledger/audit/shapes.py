"""The fields every kind of entry must have: the auditor's reading of ``docs/entries.md``.

Also makes the JSON Schemas of the kinds. Fields may be added to an entry; none may be missing or
of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Test = Callable[[Any], bool]


def whole(value: Any) -> bool:
    """An integer, and not a boolean."""
    return type(value) is int


def text(value: Any) -> bool:
    """Text."""
    return isinstance(value, str)


def flag(value: Any) -> bool:
    """A boolean."""
    return isinstance(value, bool)


def mapping(value: Any) -> bool:
    """An object."""
    return isinstance(value, dict)


def sequence(value: Any) -> bool:
    """A list."""
    return isinstance(value, list)


def maybe_text(value: Any) -> bool:
    """Text or null."""
    return value is None or isinstance(value, str)


def span(value: Any) -> bool:
    """An interval."""
    return isinstance(value, dict) and text(value.get("start")) and text(value.get("end"))


def anything(_value: Any) -> bool:
    """Whatever the operator's command took."""
    return True


JSON_TYPES: Mapping[Test, Mapping[str, Any]] = {
    whole: {"type": "integer"},
    text: {"type": "string"},
    flag: {"type": "boolean"},
    mapping: {"type": "object"},
    sequence: {"type": "array"},
    maybe_text: {"type": ["string", "null"]},
    span: {
        "type": "object",
        "required": ["start", "end"],
        "properties": {"start": {"type": "string"}, "end": {"type": "string"}},
    },
    anything: {},
}

COMMON: Mapping[str, Test] = {
    "kind": text, "utc_us": whole, "mono_us": whole, "boot": whole, "tq": text,
}  # fmt: skip

INTENT_REFERENCE: Mapping[str, Test] = {"intent_index": whole, "instr_id": whole}

KINDS: Mapping[str, Mapping[str, Test]] = {
    "boot": {"version": text, "site": text, "sop": text, "previous_boot_index": whole,
             "clean": flag},
    "config": {"sha256": text, "config": mapping},
    "key": {"vkey": text, "not_before_us": whole},
    "mode": {"mode": text, "state": text, "reasons": sequence},
    "time_step": {"step_us": whole},
    "trade.received": {"topic": text, "retain": flag, "size": whole, "sha256": text},
    "trade.accepted": {"received_index": whole, "trade_id": text, "revision": whole,
                       "out_terminal": text, "in_terminal": text, "positions": sequence},
    "trade.refused": {"received_index": whole, "trade_id": maybe_text, "reasons": sequence},
    "plan": {"sop": text, "interval": span, "setpoints": mapping, "planned_wh": mapping,
             "trades": sequence},
    "intent": {"sop": text, "instr_id": whole, "authority": text, "staged": text},
    "prepared": INTENT_REFERENCE,
    "commit": {**INTENT_REFERENCE, "reasons": sequence},
    "abort": {**INTENT_REFERENCE, "reasons": sequence},
    "outcome": {**INTENT_REFERENCE, "outcome": text, "active": mapping, "reasons": sequence},
    "readback": {"sop": text, "active": mapping},
    "reading": {"meters": sequence},
    "delivery": {"sop": text, "interval": span, "terminals": sequence, "trades": sequence,
                 "loss_wh": whole, "unscheduled_wh": whole},
    "operator": {"user": text, "verb": text, "arguments": anything, "reason": text},
    "alarm": {"code": text, "active": flag, "detail": anything},
    "anchor": {"where": text, "checkpoint_size": whole, "root": text},
    "snapshot": {"size": whole, "sha256": text},
    "gap": {"from_utc_us": whole, "to_utc_us": whole, "cause": text},
}  # fmt: skip

QUALITIES = frozenset({"good", "degraded", "invalid"})

TYPES: Mapping[Test, type] = {whole: int, text: str, flag: bool, mapping: dict, sequence: list}
"""Tests that ask for a type and nothing else."""

Split = tuple[tuple[tuple[str, type], ...], tuple[tuple[str, Test], ...]]


def split(own: Mapping[str, Test]) -> Split:
    """The fields of a kind that need a type alone, and the others."""
    tests = {**COMMON, **own}
    return (
        tuple((name, TYPES[test]) for name, test in tests.items() if test in TYPES),
        tuple((name, test) for name, test in tests.items() if test not in TYPES),
    )


SPLITS: Mapping[str, Split] = {kind: split(own) for kind, own in KINDS.items()}


def wrong_fields(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with an entry's fields; None when nothing is."""
    kind = entry.get("kind")
    found = SPLITS.get(str(kind))
    if found is None:
        return f"unknown kind {kind!r}"
    typed, tested = found
    for name, wanted in typed:
        if type(entry.get(name)) is not wanted:
            return wrong_field(entry, name)
    for name, test in tested:
        if name not in entry or not test(entry[name]):
            return wrong_field(entry, name)
    if entry["tq"] not in QUALITIES:
        return f"time quality {entry['tq']!r}"
    return None


def wrong_field(entry: Mapping[str, Any], name: str) -> str:
    """What is wrong with a field."""
    if name not in entry:
        return f"{entry['kind']} lacks {name}"
    return f"{entry['kind']}.{name} is {type(entry[name]).__name__}"


def json_schema(kind: str) -> dict[str, Any]:
    """JSON Schema of one kind of entry."""
    fields = {**COMMON, **KINDS[kind]}
    properties = {name: dict(JSON_TYPES[test]) for name, test in fields.items()}
    properties["kind"] = {"const": kind}
    properties["tq"] = {"enum": sorted(QUALITIES)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"sopgw/v1/entry/{kind}",
        "type": "object",
        "required": sorted(fields),
        "properties": properties,
    }
