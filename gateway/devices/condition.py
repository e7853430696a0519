"""Conditions of a profile's interlocks: ``state.code in [fault, estop]``, ``state.q1 != closed``.

Comparisons of a point with a word or a number, joined by ``and`` or ``or`` (``and`` binds
tighter). No calls, no arithmetic: a condition can be read aloud at the cabinet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

_COMPARISON = re.compile(
    r"^\s*(?P<point>[A-Za-z_][\w.]*)\s*(?P<op>==|!=|<=|>=|<|>|\bin\b)\s*(?P<right>.+?)\s*$"
)
Lookup = Callable[[str], "int | float | str | None"]


class ConditionError(ValueError):
    """The text is no condition."""


def points_in(text: str) -> tuple[str, ...]:
    """The points a condition looks at."""
    return tuple(_parsed(part)[0] for part in _comparisons(text))


def holds(text: str, value_of: Lookup) -> bool:
    """Tell whether the condition holds; a point without a value makes it hold.

    A condition describes when writing is forbidden, so not knowing must forbid.
    """
    return any(
        all(_compare(part, value_of) for part in re.split(r"\band\b", branch))
        for branch in re.split(r"\bor\b", text)
    )


def _comparisons(text: str) -> list[str]:
    return re.split(r"\band\b|\bor\b", text)


def _parsed(text: str) -> tuple[str, str, str]:
    found = _COMPARISON.match(text)
    if found is None:
        raise ConditionError(f"{text.strip()!r} is not a comparison like `state.code == fault`")
    return found["point"], found["op"], found["right"]


def _compare(text: str, value_of: Lookup) -> bool:
    name, op, right = _parsed(text)
    left = value_of(name)
    if left is None:
        return True
    if op == "in":
        if not (right.startswith("[") and right.endswith("]")):
            raise ConditionError(f"{right!r} is not a list like `[fault, estop]`")
        return any(_equal(left, item.strip()) for item in right[1:-1].split(","))
    if op in ("==", "!="):
        return _equal(left, right) is (op == "==")
    if isinstance(left, str):
        raise ConditionError(f"{name} is a word and has no order")
    number, limit = Decimal(str(left)), _number(right)
    return {"<": number < limit, ">": number > limit, "<=": number <= limit, ">=": number >= limit}[
        op
    ]


def _equal(left: int | float | str, right: str) -> bool:
    if isinstance(left, str):
        return left == right
    return Decimal(str(left)) == _number(right)


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ConditionError(f"{text!r} is not a number") from None
