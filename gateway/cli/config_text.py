"""The text of a site file in its usual form: order of the blocks, blanks, line ends; light.

Only what cannot change the meaning is touched; comments stay with the block they stand before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_KEY = re.compile(r"([A-Za-z_][\w-]*):(?:\s|$)")


def formatted(text: str, order: Sequence[str]) -> str:
    """Return the text in its usual form."""
    lines = [_line(line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    blocks: list[tuple[str, list[str]]] = [("", [])]
    waiting: list[str] = []
    for line in lines:
        key = _KEY.match(line)
        if key:
            blocks.append((key[1], [*waiting, line]))
            waiting = []
        elif not line or line.startswith("#"):
            waiting.append(line)
        else:
            blocks[-1][1].extend([*waiting, line])
            waiting = []
    last = _without_edges(waiting)
    places = {name: at for at, name in enumerate(order)}
    ordered = sorted(blocks, key=lambda b: places.get(b[0], len(places)) if b[0] else -1)
    parts = [part for _name, block in ordered if (part := _block(block))]
    if last:
        parts.append("\n".join(last))
    return "\n".join(_joined(parts)) + "\n"


def _line(line: str) -> str:
    return line.rstrip()


def _without_edges(lines: Sequence[str]) -> list[str]:
    found = list(lines)
    while found and not found[0]:
        found.pop(0)
    while found and not found[-1]:
        found.pop()
    return found


def _block(lines: Sequence[str]) -> str:
    """Join a block's lines; never two empty ones in a row."""
    found: list[str] = []
    for line in _without_edges(lines):
        if line or (found and found[-1]):
            found.append(line)
    return "\n".join(found)


def _joined(parts: Sequence[str]) -> list[str]:
    """Put an empty line around blocks of several lines and before comments."""
    found: list[str] = []
    for part in parts:
        if found and (_deep(found[-1]) or _deep(part) or part.startswith("#")):
            found.append("")
        found.append(part)
    return found


def _deep(part: str) -> bool:
    return "\n " in part
