"""Reads ``requirements.lock``: versions, hashes, and which packages an installation needs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = "sop-gateway"
SITE_EXTRAS = ("opcua", "report", "market", "tui")
"""Besides the core: OPC UA devices, reports as PDF, the exact optimum, `sopgw top`."""

_PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+))?"
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One locked package."""

    name: str
    version: str
    marker: str
    sha256s: tuple[str, ...]

    def fits(self, environment: Mapping[str, str]) -> bool:
        """Tell whether this pin is meant for an environment."""
        return not self.marker or Marker(self.marker).evaluate(dict(environment))

    def lines(self) -> str:
        """Write the pin as pip reads it, hashes included."""
        return " \\\n    ".join(
            (f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in self.sha256s))
        )


def read(path: Path = LOCK) -> list[Pin]:
    """Return every pin of the lock file, in its order."""
    pins: list[Pin] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := _PIN.match(line):
            pins.append(
                Pin(
                    name=canonicalize_name(found["name"]),
                    version=found["version"],
                    marker=(found["marker"] or "").strip(),
                    sha256s=(),
                )
            )
        elif found := _HASH.search(line):
            last = pins[-1]
            pins[-1] = Pin(
                name=last.name,
                version=last.version,
                marker=last.marker,
                sha256s=(*last.sha256s, found[1]),
            )
    return pins


def environment(python: str, machine: str) -> dict[str, str]:
    """Return the marker values of CPython ``python`` (3.11) on Linux on a machine."""
    return {
        "python_version": python,
        "python_full_version": f"{python}.2",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_machine": machine,
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "platform_release": "",
        "platform_version": "",
        "implementation_version": f"{python}.2",
        "extra": "",
    }


def needs(name: str, extras: Iterable[str], values: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return (package, extra) pairs a package asks for in an environment, itself not included."""
    try:
        wanted = distribution(name).requires or []
    except PackageNotFoundError:
        return set()
    found: set[tuple[str, str]] = set()
    for text in wanted:
        asked = Requirement(text)
        applies = asked.marker is None or any(
            asked.marker.evaluate({**values, "extra": extra}) for extra in ("", *extras)
        )
        if applies:
            child = canonicalize_name(asked.name)
            found |= {(child, extra) for extra in ("", *asked.extras)}
    return found


def closure(extras: Iterable[str], values: Mapping[str, str]) -> list[Pin]:
    """Return the pins that the project needs with some extras, in the lock's order.

    What each package asks for is read from the installed metadata, so ``make dev`` comes first.
    """
    seen: set[tuple[str, str]] = set()
    todo = {(PROJECT, ""), *((PROJECT, extra) for extra in extras)}
    while todo:
        name, extra = todo.pop()
        seen.add((name, extra))
        todo |= needs(name, [extra] if extra else [], values) - seen
    wanted = {name for name, _ in seen} - {PROJECT}
    pins = [p for p in read() if p.name in wanted and p.fits(values)]
    missing = wanted - {p.name for p in pins}
    if missing:
        raise SystemExit(f"not in {LOCK.name}: {', '.join(sorted(missing))}")
    return pins
