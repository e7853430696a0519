"""Reads the alarm file: every alarm with cause, consequence, response, priority and delay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from gateway.config.shape import Quantity, Shape, described, held_against
from gateway.config.yaml_reader import Document, read_file
from gateway.core.alarm_conditions import CONDITIONS
from gateway.core.alarms import Rule

NAME = "alarms.yaml"
PREFIX = "R"  # of its codes: the file is the rationalisation record
_UNKNOWN = 24  # the number of "there is no such …" in every file of ours

Delay = Annotated[int, Quantity("time", 1000, ("0 s", "1 h"))]


class AlarmShape(Shape):
    """One alarm."""

    what: str = described("What is wrong, for the list", min_length=1)
    cause: str = described("Why it can come", min_length=1)
    consequence: str = described("What follows when nobody acts", min_length=1)
    response: str = described("What to do", min_length=1)
    respond_within: Annotated[int, Quantity("time", 1, ("10 s", "7 d"))] = described(
        "Time in which the response still helps"
    )
    priority: Literal[1, 2, 3, 4] = described("1 act at once … 4 for the diagnostician")
    delay: Delay = described("The condition holds so long before the alarm comes")
    clear: Delay = described("The condition is gone so long before the alarm goes")
    unless: tuple[str, ...] = described("Alarms that explain this one", default=())


class AlarmFileShape(Shape):
    """The whole file."""

    version: Literal[1] = described("Version of this format")
    alarms: dict[str, AlarmShape] = described("The alarms by code")


def alarm_path(folder: Path) -> Path:
    """Return the alarm file of a site: one beside the site file, else the shipped one."""
    tree = Path(__file__).resolve().parents[2] / "configs" / NAME
    installed = Path(sys.prefix) / "share" / "sopgw" / NAME
    return next((p for p in (folder / NAME, tree) if p.is_file()), installed)


def check_alarms(path: Path) -> tuple[Document, AlarmFileShape | None]:
    """Read an alarm file with every problem it has."""
    document = read_file(path, prefix=PREFIX)
    found = None if document.root is None else held_against(document, AlarmFileShape)
    if found is not None:
        _check(document, found)
    return document, found


def load_alarms(path: Path) -> tuple[Rule, ...]:
    """Read an alarm file; raise ConfigFileError with every problem."""
    document, found = check_alarms(path)
    document.raise_if_failed()
    assert found is not None, "an alarm file without errors can be built"
    return tuple(
        Rule(
            code=code,
            what=a.what,
            cause=a.cause,
            consequence=a.consequence,
            response=a.response,
            respond_s=a.respond_within,
            priority_level=a.priority,
            delay_ms=a.delay,
            clear_delay_ms=a.clear,
            unless=a.unless,
        )
        for code, a in found.alarms.items()
    )


def _check(document: Document, found: AlarmFileShape) -> None:
    """An alarm needs a condition of the program; what it names must be in the list."""
    assert document.root is not None
    rows = document.root.get("alarms")
    assert rows is not None
    for code, key, row in rows.pairs():
        if code not in CONDITIONS:
            known = ", ".join(CONDITIONS)
            message = f"no condition of the gateway belongs to “{code}”"
            document.add(_UNKNOWN, message, key, help=f"one of {known}")
        alarm = found.alarms.get(code)  # None: the list stands there twice, which is said already
        for other in alarm.unless if alarm is not None else ():
            if other == code:
                message = f"“{code}” would be left out because of itself"
                document.add(_UNKNOWN, message, row.get("unless"), help="take it out")
            elif other not in found.alarms:
                message = f"“{other}” in `unless` is not in this list"
                document.add(_UNKNOWN, message, row.get("unless"), help="take it out")
