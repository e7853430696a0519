"""Acceptance plans as values: steps with hold and witness points, checks that are commands.

A plan is written for a kind of SOP; ``bind`` lays it on a site's own terminals and meters. Reading
YAML is done elsewhere; here every mistake is named by its path in the file.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.model.errors import ConfigError

COMMANDS = (
    "doctor", "scan", "check signs", "check scale", "check wiring", "check clock", "check network",
    "test signals", "test interlock", "test step", "test watchdog", "test estop", "test sweep",
    "trade rehearse", "watch",
)  # fmt: skip
PLACES = ("sop", "station", "terminal", "meter")
EACH = ("terminal", "slave")
Path = tuple[str | int, ...]  # keys and list places from the top of the file
_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,40}$")
_PLACE = re.compile(r"\{([a-z]+)\}")


class Hold(enum.StrEnum):
    """Who must be there: H nobody goes on without the witness, W the witness is told, R review."""

    NONE = "-"
    HOLD = "H"
    WITNESS = "W"
    REVIEW = "R"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing to find out: a command of this program, or something a person does."""

    id: str  # ``3.2``
    title: str
    run: str = ""  # one of COMMANDS
    arguments: tuple[str, ...] = ()
    manual: str = ""  # what a person does; then the command is empty
    each: str = ""  # ``terminal`` or ``slave``: repeated for each of them when bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Checks under one heading."""

    id: str  # ``3``
    title: str
    purpose: str
    hold: Hold
    gated: bool  # not begun while a punch item A is open: it moves more than 10 % of the rating
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SatPlan:
    """An acceptance plan."""

    id: str
    revision_number: int
    title: str
    steps: tuple[Step, ...]

    def checks(self) -> tuple[Check, ...]:
        """Return all checks in order."""
        return tuple(c for s in self.steps for c in s.checks)

    def step_of(self, check_id: str) -> Step:
        """Return the step a check belongs to; KeyError when there is none."""
        for step in self.steps:
            if any(c.id == check_id for c in step.checks):
                return step
        raise KeyError(check_id)

    def data(self) -> dict[str, Any]:
        """Return the plan as plain values, as the run record keeps it."""
        return {
            "plan": self.id,
            "revision": self.revision_number,
            "title": self.title,
            "steps": [
                {
                    "id": s.id, "title": s.title, "purpose": s.purpose, "hold": s.hold.value,
                    "gated": s.gated,
                    "checks": [
                        {
                            "id": c.id, "title": c.title, "run": c.run,
                            "arguments": list(c.arguments), "manual": c.manual,
                        }
                        for c in s.checks
                    ],
                }
                for s in self.steps
            ],
        }  # fmt: skip

    def digest(self) -> str:
        """Return the SHA-256 of the plan, which FAT and SAT must share to be compared."""
        return sha256(canonical(self.data()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """What is wrong in a plan file and where, by keys and list places."""

    path: Path
    message: str
    help: str = ""


class PlanError(ConfigError):
    """A plan file is wrong; carries every mistake."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        first = mistakes[0]
        super().__init__(f"{'/'.join(map(str, first.path))}: {first.message}")


class _Reader:
    """Walks plain values, collects every mistake."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []

    def wrong(self, path: Path, message: str, help_text: str = "") -> None:
        self.mistakes.append(Mistake(path=path, message=message, help=help_text))

    def keys(self, data: Any, path: Path, known: Sequence[str]) -> bool:
        if not isinstance(data, Mapping):
            self.wrong(path, "expected a map", f"with {', '.join(known)}")
            return False
        for key in data:
            if key not in known:
                self.wrong((*path, str(key)), f"unknown key “{key}”", f"one of {', '.join(known)}")
        return True

    def text(self, data: Mapping[str, Any], key: str, path: Path, *, need: bool = True) -> str:
        value = data.get(key, "")
        if not isinstance(value, str):
            self.wrong((*path, key), f"“{value}” is not text", "put it in quotes")
            return ""
        if need and not value.strip():
            self.wrong((*path, key), f"`{key}` is missing")
        return value.strip()


def read_plan(data: Any) -> SatPlan:
    """Build a plan from plain values; PlanError with every mistake."""
    reader = _Reader()
    known = ("plan", "revision", "title", "steps")
    if not reader.keys(data, (), known):
        raise PlanError(reader.mistakes)
    id_ = reader.text(data, "plan", ())
    if id_ and not _ID.match(id_):
        reader.wrong(("plan",), f"“{id_}” is not a plan id", "small letters, digits and hyphens")
    revision = data.get("revision", 1)
    if not isinstance(revision, int) or isinstance(revision, bool) or revision < 1:
        reader.wrong(("revision",), "the revision counts 1, 2, 3 …")
        revision = 1
    title = reader.text(data, "title", ())
    raw = data.get("steps")
    steps: list[Step] = []
    if not isinstance(raw, list) or not raw:
        reader.wrong(("steps",), "a plan has steps", "steps: [{title: …, checks: [ … ]}]")
    else:
        steps = [_step(reader, item, number) for number, item in enumerate(raw, 1)]
    if reader.mistakes:
        raise PlanError(reader.mistakes)
    return SatPlan(id=id_, revision_number=revision, title=title, steps=tuple(steps))


def _step(reader: _Reader, data: Any, number: int) -> Step:
    path: Path = ("steps", number - 1)
    empty = Step(
        id=str(number), title="", purpose="", hold=Hold.NONE, gated=False, checks=()
    )  # fmt: skip
    if not reader.keys(data, path, ("title", "purpose", "hold", "gated", "checks")):
        return empty
    hold = data.get("hold", "-")
    if hold not in tuple(Hold):
        reader.wrong((*path, "hold"), f"unknown hold “{hold}”", "H, W, R or leave it out")
        hold = "-"
    gated = data.get("gated", False)
    if not isinstance(gated, bool):
        reader.wrong((*path, "gated"), "`gated` is true or false")
        gated = False
    raw = data.get("checks")
    checks: list[Check] = []
    if not isinstance(raw, list) or not raw:
        reader.wrong((*path, "checks"), "a step has checks", "checks: [{run: check clock}]")
    else:
        checks = [
            _check(reader, item, (*path, "checks", place), f"{number}.{place + 1}")
            for place, item in enumerate(raw)
        ]
    return Step(
        id=str(number),
        title=reader.text(data, "title", path),
        purpose=reader.text(data, "purpose", path, need=False),
        hold=Hold(hold),
        gated=gated,
        checks=tuple(checks),
    )


def _check(reader: _Reader, data: Any, path: Path, id_: str) -> Check:
    if not reader.keys(data, path, ("title", "run", "manual", "each")):
        return Check(id=id_, title="")
    line = reader.text(data, "run", path, need=False)
    manual = reader.text(data, "manual", path, need=False)
    each = reader.text(data, "each", path, need=False)
    if bool(line) == bool(manual):
        reader.wrong(path, "a check has either `run` or `manual`")
    if each and each not in EACH:
        reader.wrong((*path, "each"), f"unknown “{each}”", f"one of {', '.join(EACH)}")
    run = next((c for c in COMMANDS if line == c or line.startswith(c + " ")), "")
    if line and not run:
        reader.wrong((*path, "run"), f"“{line}” is not a command of a plan", ", ".join(COMMANDS))
    for place in _PLACE.findall(line + manual):
        if place not in PLACES:
            reader.wrong(
                (*path, "run"), f"unknown place {{{place}}}", f"one of {', '.join(PLACES)}"
            )
        elif place in ("terminal", "meter") and not each:
            reader.wrong(path, f"{{{place}}} needs `each: terminal`")
    return Check(
        id=id_,
        title=reader.text(data, "title", path, need=False) or line or manual,
        run=run,
        arguments=tuple(line[len(run) :].split()) if run else (),
        manual=manual,
        each=each,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One terminal of a site and the meter that settles it."""

    terminal: str
    meter: str
    master: bool


def bind(plan: SatPlan, *, sop: str, station: str, places: Sequence[Place]) -> SatPlan:
    """Lay a plan on a site: repeat `each` checks per terminal and fill in the names."""
    steps = []
    for step in plan.steps:
        checks: list[Check] = []
        for check in step.checks:
            known = {"sop": sop, "station": station}
            if not check.each:
                checks.append(_filled(check, known))
                continue
            checks += [
                _filled(check, known | {"terminal": p.terminal, "meter": p.meter})
                for p in places
                if check.each == "terminal" or not p.master
            ]
        numbered = [replace(c, id=f"{step.id}.{n}", each="") for n, c in enumerate(checks, 1)]
        steps.append(replace(step, checks=tuple(numbered)))
    return replace(plan, steps=tuple(steps))


def _filled(check: Check, known: Mapping[str, str]) -> Check:
    def fill(text: str) -> str:
        return _PLACE.sub(lambda m: known.get(m.group(1), m.group(0)), text)

    return replace(
        check,
        title=fill(check.title),
        manual=fill(check.manual),
        arguments=tuple(fill(a) for a in check.arguments),
    )


def from_record(data: Mapping[str, Any]) -> SatPlan:
    """Build a bound plan again from what the run record keeps."""
    return SatPlan(
        id=data["plan"],
        revision_number=data["revision"],
        title=data["title"],
        steps=tuple(
            Step(
                id=s["id"],
                title=s["title"],
                purpose=s["purpose"],
                hold=Hold(s["hold"]),
                gated=s["gated"],
                checks=tuple(
                    Check(
                        id=c["id"],
                        title=c["title"],
                        run=c["run"],
                        arguments=tuple(c["arguments"]),
                        manual=c["manual"],
                    )
                    for c in s["checks"]
                ),
            )
            for s in data["steps"]
        ),
    )
