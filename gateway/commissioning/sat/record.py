"""The record of one acceptance run: a file of events that only grows, folded into a state.

An interrupted run goes on where it stopped: what is in the file happened, what is not did not.
Every line is written and flushed to the disk before the next check begins. Several commands may
work on a run at once: each line is written under a lock, after what others wrote meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.sat.canonical import canonical
from gateway.commissioning.sat.plan import SatPlan, Step, from_record
from gateway.journal.owner import as_owner
from gateway.model.errors import GatewayError

Places = tuple[tuple[float, float], ...]  # (s, W)
EVENTS = "events.jsonl"
LINE_BYTES_MAX = 1 << 20  # a check with a thousand rows is under 200 kB


class RecordError(GatewayError):
    """The run record cannot be read or does not allow what was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured value of a check, as text, with its limit."""

    name: str
    value_text: str
    limit: str = ""
    verdict: Verdict = Verdict.OK

    def data(self) -> dict[str, str]:
        """Return plain values."""
        return {
            "name": self.name,
            "value": self.value_text,
            "limit": self.limit,
            "verdict": self.verdict.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One measured curve with what was asked for; seconds after the write, and W."""

    name: str
    measured: Places
    wanted: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """What a check found out."""

    verdict: Verdict
    rows: tuple[Row, ...] = ()
    findings: tuple[Finding, ...] = ()
    note: str = ""
    ledger_index: int = -1
    plot_svg: str = ""  # for the report
    curves: tuple[Curve, ...] = ()  # for the terminal and a file; not in the record


@dataclass(slots=True, kw_only=True)
class PunchItem:
    """A finding with its number and its life."""

    number: str  # ``B-01``
    check: str
    code: str
    where: str
    what: str
    mend: str
    opened_us: int
    closed_us: int = -1
    closed_by: str = ""

    @property
    def open(self) -> bool:
        """Tell whether it still stands."""
        return self.closed_us < 0

    def data(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "number": self.number, "check": self.check, "code": self.code, "where": self.where,
            "what": self.what, "mend": self.mend, "opened_us": self.opened_us,
            "closed_us": self.closed_us, "closed_by": self.closed_by,
        }  # fmt: skip


@dataclass(slots=True, kw_only=True)
class CheckState:
    """Where one check stands after all events."""

    id: str
    status: str = "open"  # open | running | ok | fault | undecided | skipped
    attempts_count: int = 0
    started_us: int = -1
    done_us: int = -1
    last: Mapping[str, Any] = field(default_factory=dict)  # the latest ``done`` or ``skip`` event

    @property
    def settled(self) -> bool:
        """Tell whether the walk may pass it."""
        return self.status in ("ok", "skipped")


@dataclass(slots=True, kw_only=True)
class RunState:
    """Everything the events say."""

    header: Mapping[str, Any]
    plan: SatPlan
    checks: dict[str, CheckState]
    punch: list[PunchItem] = field(default_factory=list)
    witnessed: dict[str, str] = field(default_factory=dict)  # step id -> who
    closed: bool = False

    @property
    def verdict(self) -> str:
        """``incomplete``, ``rejected``, ``accepted with reservations`` or ``accepted``."""
        if any(p.open and p.number.startswith("A") for p in self.punch):
            return "rejected"
        states = [c.status for c in self.checks.values()]
        if "fault" in states:
            return "rejected"
        if any(s not in ("ok", "skipped") for s in states):
            return "incomplete"
        held = [s for s in self.plan.steps if s.hold == "H"]
        if any(s.id not in self.witnessed for s in held):
            return "incomplete"
        if "skipped" in states or any(p.open for p in self.punch):
            return "accepted with reservations"
        return "accepted"

    def open_punch(self, letter: str = "") -> list[PunchItem]:
        """Return open punch items, of one letter or of all."""
        return [p for p in self.punch if p.open and p.number.startswith(letter)]

    def step_status(self, step: Step) -> str:
        """Sum up a step: open, running, ok, skipped, fault or undecided."""
        found = {self.checks[c.id].status for c in step.checks}
        for status in ("running", "fault", "undecided"):
            if status in found:
                return status
        if found == {"skipped"}:
            return "skipped"
        if found <= {"ok", "skipped"}:
            return "ok"
        return "open"


class RunRecord:
    """Appends events to the run's file and folds them."""

    def __init__(self, folder: Path, now_us: Callable[[], int]) -> None:
        self.folder = folder
        self._events: list[dict[str, Any]] = []
        self._read_size = 0  # bytes of the file that the events are of
        self._now_us = now_us

    @property
    def id(self) -> str:
        """The run's name, which is its folder's."""
        return self.folder.name

    @property
    def events(self) -> Sequence[Mapping[str, Any]]:
        """All events so far."""
        return tuple(self._events)

    @classmethod
    def create(
        cls, folder: Path, *, plan: SatPlan, header: Mapping[str, Any], now_us: Callable[[], int]
    ) -> RunRecord:
        """Begin a run in a new folder."""
        with as_owner(folder):
            folder.mkdir(parents=True, exist_ok=False)
        record = cls(folder, now_us)
        record.append("new", {"header": dict(header), "plan": plan.data()})
        return record

    @classmethod
    def open(cls, folder: Path, *, now_us: Callable[[], int]) -> RunRecord:
        """Read a run; a last line cut short by a power failure is dropped, another one is not."""
        path = folder / EVENTS
        record = cls(folder, now_us)
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                cut = record._read_on(file)
                if cut:
                    with as_owner(folder):
                        os.truncate(path, record._read_size)
        except FileNotFoundError:
            raise RecordError(f"no run in {folder}") from None
        if not record._events:
            raise RecordError(f"{path} holds no event")
        return record

    def _read_on(self, file: BinaryIO) -> bytes:
        """Read what was written since; return what stands after the last whole line."""
        path = self.folder / EVENTS
        if os.fstat(file.fileno()).st_size < self._read_size:
            raise RecordError(f"{path} was cut by somebody else")
        file.seek(self._read_size)
        whole, newline, rest = file.read().rpartition(b"\n")
        found: list[dict[str, Any]] = []
        for number, line in enumerate(whole.split(b"\n") if newline else [], len(self._events) + 1):
            try:
                event = json.loads(line)
            except ValueError:
                raise RecordError(f"{path}:{number}: not a record line") from None
            if not isinstance(event, dict) or event.get("seq") != number:
                raise RecordError(f"{path}:{number}: line {number} has another number")
            found.append(event)
        self._events += found
        self._read_size += len(whole) + len(newline)
        return rest

    def append(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Write one event, after those that other commands wrote; on the disk when this returns."""
        canonical(dict(fields))  # what cannot be written is told before anything is read
        with as_owner(self.folder), (self.folder / EVENTS).open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._read_on(file):
                file.truncate(self._read_size)  # half a line of one that died: it did not happen
            event = {"seq": len(self._events) + 1, "utc_us": self._now_us(), "kind": kind, **fields}
            line = canonical(event) + b"\n"
            assert len(line) <= LINE_BYTES_MAX
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
            self._read_size += len(line)
        self._events.append(json.loads(line))

    def begin(self, check_id: str) -> None:
        """Record that a check starts."""
        self.append("begin", {"check": check_id})

    def done(self, check_id: str, outcome: CheckOutcome, *, by: str) -> None:
        """Record what a check found."""
        self.append(
            "done",
            {
                "check": check_id,
                "verdict": outcome.verdict.value,
                "rows": [r.data() for r in outcome.rows],
                "findings": [f.data() for f in outcome.findings],
                "note": outcome.note,
                "ledger_index": outcome.ledger_index,
                "plot_svg": outcome.plot_svg,
                "by": by,
            },
        )

    def skip(self, check_id: str, *, reason: str, by: str) -> None:
        """Record that a check is left out and why."""
        if not reason.strip():
            raise RecordError("a check is skipped only with a reason")
        self.append("skip", {"check": check_id, "reason": reason, "by": by})

    def witnessed(self, step_id: str, *, witness: str) -> None:
        """Record that the witness was there for a step."""
        self.append("witnessed", {"step": step_id, "witness": witness})

    def close_punch(self, number: str, *, how: str, by: str) -> None:
        """Close a punch item by hand; A items close only by repeating their check."""
        item = next((p for p in self.state().open_punch() if p.number == number), None)
        if item is None:
            raise RecordError(f"no open punch item {number}")
        if number.startswith(Punch.A):
            raise RecordError(f"{number} closes when check {item.check} passes: repeat it")
        self.append("punch_closed", {"number": number, "how": how, "by": by})

    def state(self) -> RunState:
        """Fold the events."""
        first = self._events[0]
        plan = from_record(first["plan"])
        state = RunState(
            header=first["header"],
            plan=plan,
            checks={c.id: CheckState(id=c.id) for c in plan.checks()},
        )
        for event in self._events[1:]:
            _fold(state, event)
        return state


def _fold(state: RunState, event: Mapping[str, Any]) -> None:
    kind = event["kind"]
    if kind == "witnessed":
        state.witnessed[event["step"]] = event["witness"]
        return
    if kind == "punch_closed":
        for item in state.punch:
            if item.number == event["number"] and item.open:
                item.closed_us, item.closed_by = event["utc_us"], f"{event['by']}: {event['how']}"
        return
    if kind not in ("begin", "done", "skip"):
        return
    check = state.checks[event["check"]]
    if kind == "begin":
        check.status, check.started_us = "running", event["utc_us"]
        check.attempts_count += 1
    elif kind == "skip":
        check.status, check.done_us, check.last = "skipped", event["utc_us"], event
    else:
        check.status, check.done_us, check.last = event["verdict"], event["utc_us"], event
        _punch(state, check.id, event)


def _punch(state: RunState, check_id: str, event: Mapping[str, Any]) -> None:
    """Open an item per new finding; close those of this check that are gone."""
    found = {(f["punch"], f["code"], f["where"]): f for f in event["findings"]}
    for item in state.punch:
        if item.check != check_id or not item.open:
            continue
        same = found.pop((item.number[0], item.code, item.where), None)
        if same is None and event["verdict"] != Verdict.UNDECIDED:
            item.closed_us, item.closed_by = event["utc_us"], f"check {check_id} repeated"
    for finding in found.values():
        letter = finding["punch"]
        count = sum(p.number.startswith(letter) for p in state.punch)
        state.punch.append(
            PunchItem(
                number=f"{letter}-{count + 1:02d}",
                check=check_id,
                code=finding["code"],
                where=finding["where"],
                what=finding["what"],
                mend=finding["mend"],
                opened_us=event["utc_us"],
            )
        )


def runs_in(folder: Path) -> Iterator[Path]:
    """Yield the folders of all runs, oldest first."""
    if folder.is_dir():
        yield from sorted(p for p in folder.iterdir() if (p / EVENTS).is_file())
