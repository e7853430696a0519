"""``sopgw instr``: instructions to the station and what became of each, from the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import ExitCode, emit, fail, group, site_option
from gateway.model.units import signed_kw_text

Entry = Mapping[str, Any]
STEPS = ("prepared", "commit", "abort", "outcome")
LS_COUNT = 20


@dataclass(slots=True)
class Instruction:
    """One instruction: its intent and every later entry about it."""

    index: int
    intent: Entry
    steps: list[tuple[int, Entry]] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """How it ended, or ``open``."""
        for _, entry in reversed(self.steps):
            if entry["kind"] in ("outcome", "readback"):
                return str(entry["outcome"])
            if entry["kind"] == "abort":
                return "aborted"
        return "open"

    def data(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "index": self.index,
            "instr_id": self.intent["instr_id"],
            "utc_us": self.intent["utc_us"],
            "authority": self.intent["authority"],
            "plan_index": self.intent["plan_index"],
            "command": self.intent.get("command", ""),
            "setpoints": {s["terminal"]: s["p_w"] for s in self.intent["setpoints"]},
            "outcome": self.outcome,
        }


@group(
    "instr",
    examples=(
        ("sopgw instr ls -c site.yaml", "the last instructions and how they ended"),
        ("sopgw instr trace 0x1a2b3c4d -c site.yaml", "one of them, step by step, with entries"),
    ),
)
def instr() -> None:
    """Instructions and what became of them."""


def ledger_option(function: Any) -> Any:
    """Add ``--ledger DIR``: a ledger instead of the site's."""
    return click.option(
        "--ledger",
        "directory",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="A ledger folder instead of the site file's.",
    )(function)


@instr.command(
    "ls",
    schema="instr.ls",
    examples=(
        ("sopgw instr ls -c site.yaml", "the last twenty"),
        ("sopgw instr ls --count 100 --ledger out/ledger --json", "of any ledger"),
    ),
)
@click.option("--count", type=click.IntRange(1), default=LS_COUNT, show_default=True)
@ledger_option
@site_option
def ls(*, count: int, directory: Path | None, config_path: Path) -> None:
    """List the last instructions: when, by whose authority, what, outcome."""
    found = read(folder_of(directory, config_path))[-count:]
    rows = [i.data() for i in found]
    emit({"instructions": rows}, text=lambda: "\n".join(_line(i) for i in found) or "none yet")


@instr.command(
    "show",
    schema="instr.show",
    examples=(
        ("sopgw instr show 0x1a2b3c4d -c site.yaml", "the intent and its outcome"),
        ("sopgw instr show 4711 --json -c site.yaml", "by the index of its intent"),
    ),
)
@click.argument("wanted", metavar="ID")
@ledger_option
@site_option
def show(*, wanted: str, directory: Path | None, config_path: Path) -> None:
    """Show one instruction: by its id, or by the index of its intent."""
    one = find(read(folder_of(directory, config_path)), wanted)
    emit({**one.data(), "intent": dict(one.intent)}, text=_line(one))


@instr.command(
    "trace",
    schema="instr.trace",
    examples=(
        ("sopgw instr trace 0x1a2b3c4d -c site.yaml", "why, what was sent, what the device said"),
        ("sopgw instr trace 4711 --ledger out/ledger --json", "the entries themselves"),
    ),
)
@click.argument("wanted", metavar="ID")
@ledger_option
@site_option
def trace(*, wanted: str, directory: Path | None, config_path: Path) -> None:
    """Follow one instruction from the trade that caused it to the read-back that ended it."""
    folder = folder_of(directory, config_path)
    one = find(read(folder), wanted)
    plan = entry_at(folder, one.intent["plan_index"])
    trades = [t["trade_id"] for t in plan["trades"]] if plan else []
    entries = [{"index": one.index, **one.intent}, *({"index": n, **e} for n, e in one.steps)]
    emit(
        {**one.data(), "trades": trades, "entries": entries},
        text=lambda: "\n".join(lines(one, plan)),
    )


def folder_of(directory: Path | None, config_path: Path) -> Path:
    """Return the ledger folder that is meant."""
    if directory is not None:
        return directory
    from gateway.cli.door import ledger_of

    folder = ledger_of(config_path)
    if not folder.exists():
        fail(
            ExitCode.USAGE,
            f"there is no ledger at {folder}",
            code="G008",
            where=str(folder),
            help="the gateway makes it at its first start; or name one with --ledger",
        )
    return folder


def read(folder: Path) -> list[Instruction]:
    """Return every instruction of a ledger in order."""
    from gateway.journal.ledger_journal import read_entries

    return gather(read_entries(folder))


def gather(entries: Any) -> list[Instruction]:
    """Put entries to the instruction they belong to."""
    found: dict[int, Instruction] = {}
    for index, entry in entries:
        if entry["kind"] == "intent":
            found[index] = Instruction(index, entry)
        elif entry["kind"] in STEPS or entry.get("cause") == "reconcile":
            one = found.get(entry["intent_index"])
            if one is not None:
                one.steps.append((index, entry))
    return list(found.values())


def find(found: Sequence[Instruction], wanted: str) -> Instruction:
    """Return the instruction of an id or of an intent's index; the newest of equal ids."""
    try:
        number = int(wanted.removeprefix("#"), 0)
    except ValueError:
        raise click.UsageError(
            f"“{wanted}” is no id; write 0x1a2b3c4d or an entry's index"
        ) from None
    one = next((i for i in reversed(found) if number in (i.intent["instr_id"], i.index)), None)
    if one is None:
        fail(
            ExitCode.FAILED,
            f"no instruction {wanted} in this ledger",
            code="G009",
            help="sopgw instr ls",
        )
    return one


def entry_at(folder: Path, index: int) -> Entry | None:
    """Return one entry of a ledger, None for −1."""
    from gateway.journal.ledger_journal import read_entries

    if index < 0:
        return None
    for _, entry in read_entries(folder, index):
        return entry
    return None


def lines(one: Instruction, plan: Entry | None) -> Iterator[str]:
    """Tell an instruction step by step, each with its entry and its delay."""
    yield f"instruction {one.intent['instr_id']:#010x}   {one.intent['authority']}   {one.outcome}"
    if plan is not None:
        ids = ", ".join(t["trade_id"] for t in plan["trades"])
        yield f"  #{one.intent['plan_index']:<7} plan of {plan['interval']['start']} for {ids}"
    image = one.intent.get("image", {})
    if "station_state" in image:
        measured = ", ".join(f"{t} {signed_kw_text(p)}" for t, p in image["p_w"].items())
        dc_v = image["v_dc_dv"] / 10
        yield f"  seen     station {image['station_state']}, {dc_v:.1f} V; {measured}"
    began_us = one.intent["mono_us"]
    yield f"  #{one.index:<7} {_clock(one.intent)}  intent: {_what(one.intent)}"
    for index, entry in one.steps:
        later_s = (entry["mono_us"] - began_us) / 1e6
        yield f"  #{index:<7} {_clock(entry)}  +{later_s:.3f} s  {_step(entry)}"
    if not one.steps:
        yield "  nothing followed: the next start reads the station back and says how it ended"


def _step(entry: Entry) -> str:
    reasons = "; ".join(_reason(r) for r in entry.get("reasons", ()))
    why = f" ({reasons})" if reasons else ""
    match entry["kind"]:
        case "prepared":
            return "selected; the staged block was read back equal"
        case "commit":
            return "commit: durable before OPERATE leaves"
        case "abort":
            return f"aborted before OPERATE{why}"
        case "readback":
            return f"read back later: {entry['outcome']}; station {entry['state']}"
        case _:
            active = ", ".join(f"{t} {signed_kw_text(p)}" for t, p in entry["active"].items())
            told = f"; the station holds {active}" if active else ""
            return f"{entry['outcome']}{told}{why}"


def _reason(reason: Any) -> str:
    if isinstance(reason, Mapping):
        return f"{reason['code']} {reason.get('detail', '')}".strip()
    return str(reason)


def _what(intent: Entry) -> str:
    powers = ", ".join(f"{s['terminal']} {signed_kw_text(s['p_w'])}" for s in intent["setpoints"])
    return powers or str(intent.get("command", ""))


def _line(one: Instruction) -> str:
    return (
        f"#{one.index:<7} {_clock(one.intent)}  {one.intent['instr_id']:#010x}  "
        f"{one.intent['authority']:<9} {one.outcome:<9} {_what(one.intent)}"
    )


def _clock(entry: Entry) -> str:
    import datetime as dt

    return f"{dt.datetime.fromtimestamp(entry['utc_us'] / 1e6, tz=dt.UTC):%H:%M:%S.%f}"[:-3]
