"""Reading the fields of a stranger's JSON object one by one, noting every fault with its place.

A reader returns something usable or a neutral value (``""``, ``None``, ``[]``) and goes on, so
that one pass finds all faults.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Any

from gateway.market.strict_json import Findings, Wrong, quoted
from gateway.model.interval import Interval, utc_ms_from
from gateway.model.reason import ReasonCode

# Ids become parts of topics and file names: no slash, no wildcard, no leading dot.
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,59}", re.ASCII)
PARTY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@\-]{0,59}", re.ASCII)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d{3})?)?Z", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,9})?", re.ASCII)
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_CODING_SCHEME = re.compile(r"[AN][A-Z0-9]{2}", re.ASCII)
_YEARS = range(2000, 2200)  # instants outside are a mistake of units


def number(value: object) -> int | None:
    """Return an integer given as such or as text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    return None


class Reader:
    """One JSON object being read; ``path`` is its place in the document."""

    __slots__ = ("_path", "_value", "findings")

    def __init__(
        self, value: dict[str, Any], path: str, findings: Findings, *, known: Collection[str]
    ) -> None:
        self._value = value
        self._path = path
        self.findings = findings
        for name in value:
            if name not in known and not findings.full:
                findings.add(ReasonCode.UNKNOWN_FIELD, f"{path}/{quoted(name)}")

    def note(self, code: ReasonCode, name: str, detail: str) -> None:
        """Note a fault of one field."""
        self.findings.add(code, f"{self._path}/{name}: {detail}")

    def child(self, name: str, *, known: Collection[str]) -> Reader | None:
        """Return the reader of an object inside; None when there is none."""
        value = self._get(name, optional=False)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.note(ReasonCode.FORM, name, "not an object")
            return None
        return Reader(value, f"{self._path}/{name}", self.findings, known=known)

    def array(self, name: str, *, known: Collection[str], count_max: int) -> list[Reader]:
        """Return the readers of an array's objects; an empty array is a fault."""
        value = self._get(name, optional=False)
        if value is None:
            return []
        if not isinstance(value, list) or not value:
            self.note(ReasonCode.FORM, name, "not an array with something in it")
            return []
        if len(value) > count_max:
            self.note(ReasonCode.OVERSIZED, name, f"{len(value)} members, at most {count_max}")
            return []
        found = []
        for index, item in enumerate(value):
            if isinstance(item, dict):
                path = f"{self._path}/{name}/{index}"
                found.append(Reader(item, path, self.findings, known=known))
            elif not isinstance(item, Wrong):
                self.note(ReasonCode.FORM, f"{name}/{index}", "not an object")
        return found

    def text(self, name: str, *, optional: bool = False) -> str:
        """Return a text of printable ASCII; an empty one is a fault, for it says nothing."""
        value = self._get(name, optional=optional)
        if value is None:
            return ""
        if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
            self.note(ReasonCode.FORM, name, "not plain text")
            return ""
        if not value:
            self.note(ReasonCode.FORM, name, "empty")
        return value

    def identifier(self, name: str) -> str:
        """Return an identifier that is safe in a topic and in a file name."""
        return self._matching(name, self.text(name), IDENTIFIER)

    def name(self, name: str) -> str:
        """Return the name of a site, region or party, written as plain text."""
        return self._matching(name, self.text(name), PARTY)

    def party(self, name: str, *, optional: bool = False) -> str:
        """Return the value of ``{"codingScheme", "value"}``, the standard's qualified id."""
        value = self._get(name, optional=optional)
        if value is None:
            return ""
        if not isinstance(value, dict):
            self.note(ReasonCode.FORM, name, "not an object with codingScheme and value")
            return ""
        inner = Reader(
            value, f"{self._path}/{name}", self.findings, known=("codingScheme", "value")
        )
        scheme = inner.text("codingScheme")
        if scheme and not _CODING_SCHEME.fullmatch(scheme):
            inner.note(ReasonCode.CODE, "codingScheme", quoted(scheme))
        return inner._matching("value", inner.text("value"), PARTY)

    def code(
        self,
        name: str,
        allowed: Collection[str],
        *,
        optional: bool = False,
        reason: ReasonCode = ReasonCode.CODE,
    ) -> str:
        """Return a code that stands in the list."""
        value = self.text(name, optional=optional)
        if value and value not in allowed:
            self.note(reason, name, f"{quoted(value)}: one of {', '.join(allowed)}")
            return ""
        return value

    def currency(self, name: str) -> str:
        """Return an ISO 4217 code if there is one."""
        value = self.text(name, optional=True)
        if value and not _CURRENCY.fullmatch(value):
            self.note(ReasonCode.CURRENCY, name, f"{quoted(value)} is no ISO 4217 code")
            return ""
        return value

    def integer(self, name: str, *, low: int, high: int, optional: bool = False) -> int | None:
        """Return an integer within bounds, written as one or as text."""
        value = self._get(name, optional=optional)
        if value is None:
            return None
        found = number(value)
        if found is None:
            self.note(ReasonCode.NOT_INTEGER, name, f"{quoted(value)} is not an integer")
            return None
        if not low <= found <= high:
            self.note(ReasonCode.OUT_OF_RANGE, name, f"{found} is not within {low} to {high}")
            return None
        return found

    def decimal(self, name: str, *, optional: bool = False) -> Decimal | None:
        """Return an exact decimal, written as an integer or as decimal text without exponent."""
        value = self._get(name, optional=optional)
        if value is None:
            return None
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
            self.note(ReasonCode.NOT_INTEGER, name, f"{quoted(value)} is no decimal number")
            return None
        return Decimal(text)

    def instant(self, name: str) -> int | None:
        """Return a UTC instant in milliseconds."""
        value = self.text(name)
        return self._instant(name, value) if value else None

    def span(self, name: str) -> Interval | None:
        """Return ``{"start", "end"}`` as a half-open interval."""
        inner = self.child(name, known=("start", "end"))
        if inner is None:
            return None
        start, end = inner.instant("start"), inner.instant("end")
        if start is None or end is None:
            return None
        if start >= end:
            inner.note(ReasonCode.TIME, "end", "does not lie after the start")
            return None
        return Interval(start, end)

    def _instant(self, name: str, value: str) -> int | None:
        if _INSTANT.fullmatch(value) and int(value[:4]) in _YEARS:
            try:
                return utc_ms_from(value)
            except ValueError:
                pass  # the 31st of February
        self.note(
            ReasonCode.TIME, name, f"{quoted(value)} is no UTC instant like 2026-01-02T02:00Z"
        )
        return None

    def _get(self, name: str, *, optional: bool) -> Any:
        value = self._value.get(name)
        if value is None and (name in self._value or not optional):
            self.note(ReasonCode.MISSING_FIELD, name, "must be there")
        return None if isinstance(value, Wrong) else value

    def _matching(self, name: str, value: str, pattern: re.Pattern[str]) -> str:
        if value and not pattern.fullmatch(value):
            self.note(ReasonCode.IDENTIFIER, name, f"{quoted(value)} is no identifier")
            return ""
        return value
