"""The same plan on the bench and on site, side by side: what passed there and not here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"^\s*([+\-−]?\d+(?:\.\d+)?)\s*(\D*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One check or measured value that is not the same in both."""

    check: str
    title: str
    name: str  # "" for the status of the check
    first_text: str
    second_text: str
    change_pct: float | None  # of the first, where both are numbers in one unit
    worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All differences, and what cannot be compared."""

    differences: tuple[Difference, ...]
    not_comparable: tuple[str, ...]
    compared_count: int

    @property
    def worse(self) -> bool:
        """Tell whether something passed in the first and not in the second."""
        return any(d.worse for d in self.differences)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
    """Compare two reports' records, bench first; ids of checks and names of rows are the key."""
    a, b = first["record"], second["record"]
    odd = []
    for key in ("plan", "revision"):
        if a["plan"][key] != b["plan"][key]:
            odd.append(f"{key}: {a['plan'][key]} against {b['plan'][key]}")
    if not odd and a["plan"] != b["plan"]:
        other_text = ", ".join(_other_checks(a["plan"], b["plan"])) or "its head"
        odd.append(f"plan: the same id and revision, other content: {other_text}")
    titles = {c["id"]: c["title"] for s in a["plan"]["steps"] for c in s["checks"]}
    other = {c["id"]: c for c in b["checks"]}
    differences: list[Difference] = []
    count = 0
    for check in a["checks"]:
        twin = other.pop(check["id"], None)
        if twin is None:
            odd.append(f"check {check['id']} is only in the first")
            differences.append(_status(check, titles, "missing"))
            continue
        count += 1
        title = titles.get(check["id"], "")
        if check["status"] != twin["status"]:
            differences.append(_status(check, titles, twin["status"]))
        rows = {r["name"]: r for r in twin["rows"]}
        for row in check["rows"]:
            match = rows.get(row["name"])
            if match is None or match["value"] == row["value"]:
                continue
            differences.append(
                Difference(
                    check=check["id"], title=title, name=row["name"], first_text=row["value"],
                    second_text=match["value"], change_pct=change_pct(row["value"], match["value"]),
                    worse=row["verdict"] == "ok" and match["verdict"] == "fault",
                )
            )  # fmt: skip
    odd += [f"check {id_} is only in the second" for id_ in other]
    return Comparison(
        differences=tuple(differences), not_comparable=tuple(odd), compared_count=count
    )


def _status(check: Mapping[str, Any], titles: Mapping[str, str], second_text: str) -> Difference:
    """Return how the status differs; what is skipped or missing there did not pass there."""
    return Difference(
        check=check["id"],
        title=titles.get(check["id"], ""),
        name="",
        first_text=check["status"],
        second_text=second_text,
        change_pct=None,
        worse=check["status"] == "ok",
    )


def _other_checks(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return the steps and checks that the two plans do not have alike."""
    a, b = (
        {s["id"]: {**s, "checks": None} for s in plan["steps"]}
        | {c["id"]: c for s in plan["steps"] for c in s["checks"]}
        for plan in (first, second)
    )
    return [id_ for id_ in sorted(a.keys() | b.keys()) if a.get(id_) != b.get(id_)]


def change_pct(first: str, second: str) -> float | None:
    """Return the change in percent of two texts that are numbers in one unit."""
    a, b = _NUMBER.match(first), _NUMBER.match(second)
    if a is None or b is None or a.group(2).strip() != b.group(2).strip():
        return None
    x, y = (float(m.group(1).replace("−", "-")) for m in (a, b))
    return 100 * (y - x) / abs(x) if x else None
