"""Reading market documents: every mistake is collected with its JSON path, nothing is guessed.

A contract must refuse a bad document as a whole and say everything that is wrong with it at once;
a reader that stopped at the first mistake would make its author send the file ten times.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

import msgspec

AMOUNT_MAX = 10**12
"""Largest offer, price or quantity: 4,096 of them still sum below 2**53, the canonical limit."""

EXACT_MAX = 2**53 - 1
"""Largest integer every JSON reader keeps exactly."""


UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\xa0\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ud800-\uf8ff\ufeff\ufff0-\uffff"
    r"\U000110bd\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bcaf\U0001d173-\U0001d17a"
    r"\U000e0000-\U0010ffff]"
)
"""Controls, spaces other than the usual one, marks of direction, what is nobody's.

A table of our own: Python's grows with Unicode, and nodes under two releases would then read a
message differently.
"""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
NAME_LENGTH_MAX = 60
"""As many as the gateway takes: a trade that names anything longer would never be carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One thing wrong with a document, and where."""

    path: str
    message: str


class DocumentRefused(Exception):  # noqa: N818 - a verdict about the document, not a failure here
    """The document was refused as a whole; ``mistakes`` says everything that is wrong with it."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(f"{mistake.path}: {mistake.message}" for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    doubled: tuple[str, ...] = ()


def _pairs(items: list[tuple[str, Any]]) -> _Pairs:
    result = _Pairs(items)
    if len(result) != len(items):
        seen: set[str] = set()
        result.doubled = tuple(key for key, _ in items if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return result


def parse(data: bytes) -> Any:
    """Parse JSON; raise DocumentRefused with one mistake when it is not JSON at all.

    Numbers that are not integers (also NaN) come through, so that the shape check can name
    their place.
    """
    try:
        return json.loads(data, object_pairs_hook=_pairs)
    except RecursionError:
        raise DocumentRefused([Mistake(path="$", message="nested too deeply")]) from None
    except ValueError as error:
        raise DocumentRefused([Mistake(path="$", message=f"not JSON: {error}")]) from None


def canonical(value: Any) -> bytes:
    """Encode integers, texts, lists and objects canonically: sorted keys, no spaces, no floats."""
    return msgspec.json.encode(value, order="deterministic")


def digest(value: Any) -> str:
    """Name a result by its content, comparable between machines by one line."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float():
            return str(value).replace("nan", "NaN").replace("inf", "Infinity")
        case int():
            return str(value) if abs(value) <= EXACT_MAX else "too large"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case _:
            return "an object"


def _in_bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


class Node:
    """A place in a document: reads what should stand there and notes what does not."""

    __slots__ = ("mistakes", "path", "value")

    def __init__(self, value: Any, mistakes: list[Mistake], *, path: str = "$") -> None:
        self.value = value
        self.path = path
        self.mistakes = mistakes

    def wrong(self, message: str) -> None:
        """Note a mistake at this place."""
        self.mistakes.append(Mistake(path=self.path, message=message))

    def has(self, key: str) -> bool:
        """Tell whether the object has the key with anything but null."""
        return isinstance(self.value, dict) and self.value.get(key) is not None

    def at(self, key: str) -> Node:
        """Step to a key; the missing key reads as null there."""
        inside = self.value.get(key) if isinstance(self.value, dict) else None
        return Node(inside, self.mistakes, path=f"{self.path}.{key}")

    def fields(self, *, required: set[str], optional: set[str] | None = None) -> bool:
        """Check that this is an object with exactly such keys."""
        if not isinstance(self.value, dict):
            self.wrong(f"must be an object, is {_kind(self.value)}")
            return False
        for key in sorted(required - set(self.value)):
            self.wrong(f"lacks {key!r}")
        for key in sorted(set(self.value) - required - (optional or set())):
            self.wrong(f"has the unknown key {key!r}")
        for key in getattr(self.value, "doubled", ()):
            self.wrong(f"has the key {key!r} twice")
        return required <= set(self.value)

    def integer(self, *, low: int = -AMOUNT_MAX, high: int = AMOUNT_MAX) -> int:
        """Read an integer between the limits, both included; 0 stands in for a bad one."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(f"must be an integer, is {_kind(value)}")
            return 0
        if not low <= value <= high:
            self.wrong(f"must be from {low} to {high}, is {_kind(value)}")
            return 0
        return value

    def text(self, *, size_max: int = 64) -> str:
        """Read a non-empty text of printable characters."""
        value = self.value
        if not isinstance(value, str):
            self.wrong(f"must be a text, is {_kind(value)}")
            return ""
        if not 0 < len(value) <= size_max or UNPRINTABLE.search(value):
            self.wrong(f"must have 1 to {size_max} printable characters")
        return value

    def name(self) -> str:
        """Read an identifier: it becomes a key, a topic level and part of a trade's id."""
        text = self.text(size_max=NAME_LENGTH_MAX)
        if text and not NAME.fullmatch(text):
            self.wrong(
                "may have only letters, digits and . _ - and must start with one of the first two"
            )
        return text

    def choice(self, *allowed: str) -> str:
        """Read one of the allowed words."""
        if self.value not in allowed:
            self.wrong(f"must be one of {', '.join(allowed)}, is {_kind(self.value)}")
            return allowed[0]
        return str(self.value)

    def flag(self) -> bool:
        """Read true or false."""
        if not isinstance(self.value, bool):
            self.wrong(f"must be true or false, is {_kind(self.value)}")
        return self.value is True

    def items(self, *, low: int = 0, high: int = 100_000) -> list[Node]:
        """Read a list as places; an empty one stands in for a bad one."""
        if not isinstance(self.value, list):
            self.wrong(f"must be a list, is {_kind(self.value)}")
            return []
        if not low <= len(self.value) <= high:
            self.wrong(f"must have {low} to {high} members, has {len(self.value)}")
            return []
        return [
            Node(value, self.mistakes, path=f"{self.path}[{index}]")
            for index, value in enumerate(self.value)
        ]

    def integers(self, *, count: int | None = None, low: int, high: int) -> tuple[int, ...]:
        """Read a list of integers, of the given length where one is asked for."""
        nodes = self.items()
        if count is not None and isinstance(self.value, list) and len(self.value) != count:
            self.wrong(f"must have {count} members, has {len(self.value)}")
            return (0,) * count
        return tuple(node.integer(low=low, high=high) for node in nodes)

    def members(self) -> list[tuple[str, Node]]:
        """Read an object as (key, place) pairs in the order of its keys' bytes."""
        if not isinstance(self.value, dict):
            self.wrong(f"must be an object, is {_kind(self.value)}")
            return []
        for key in getattr(self.value, "doubled", ()):
            self.wrong(f"has the key {key!r} twice")
        return [(key, self.at(key)) for key in sorted(self.value, key=_in_bytes)]
