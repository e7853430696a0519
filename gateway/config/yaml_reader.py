"""Reads YAML 1.2 strictly into nodes that know their line and column.

Data only: anchors, aliases, tags, directives and a second document are mistakes. Numbers with a
point become Decimal, so nothing is rounded on the way in. ``NO``, ``on`` and ``12:30`` stay text.
Never raises on any text: what is wrong is added to ``Document.problems``.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from gateway.config.problem import ConfigFileError, Problem, Severity, errors_in

__all__ = ["ConfigFileError", "Document", "Node", "Problem", "nearest", "read_file", "read_text"]

FILE_BYTES_MAX = 1 << 20  # the largest known profile is under 100 kB
DEPTH_MAX = 24  # a site file is 6 deep
NUMBER_LENGTH_MAX = 30  # longer digits are text: no quantity of ours is that long

_READING = ("002", "003", "004")  # codes of the reader itself
_MANY = ("011",)  # several keys may be missing at one place
# `007` is a name before it is seven, and `01` no second way to write an index.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)$|0x[0-9a-fA-F]+$|0o[0-7]+$")
# An exponent needs its sign: `8E1` is a line format before it is eighty.
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+][0-9]{1,2})?$")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(
    ("false", "False", "FALSE"), False
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One value of the file with its place; ``entries`` for maps, ``items`` for lists."""

    kind: Literal["map", "list", "scalar"]
    line: int
    column: int
    width: int = 1
    value: Any = None  # scalar after YAML 1.2 core rules
    text: str = ""  # scalar as written
    entries: tuple[tuple[Node, Node], ...] = ()
    items: tuple[Node, ...] = ()

    def get(self, *path: str | int) -> Node | None:
        """Follow keys and list places; None where the way ends."""
        node: Node | None = self
        for step in path:
            if node is None:
                return None
            if node.kind == "map":
                node = next((v for k, v in node.entries if step in (k.value, k.text)), None)
            elif node.kind == "list" and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                return None
        return node

    def key(self, name: str | int) -> Node | None:
        """Return the key itself, to point at."""
        return next((k for k, _ in self.entries if name in (k.value, k.text)), None)

    @property
    def meaning(self) -> str:
        """What is compared where something may stand once: `1` and `0x1` are the same number."""
        is_number = isinstance(self.value, int) and not isinstance(self.value, bool)
        return str(self.value) if is_number else self.text

    def pairs(self) -> Iterator[tuple[str, Node, Node]]:
        """Yield ``(name, key, value)`` of a map; nothing for other kinds."""
        for key, value in self.entries:
            yield key.text, key, value

    def word(self, *path: str | int) -> str | None:
        """Return the text at ``path`` when a scalar stands there."""
        node = self.get(*path)
        return node.text if node is not None and node.kind == "scalar" else None

    def data(self) -> Any:
        """Return plain Python values."""
        if self.kind == "map":
            return {k.value if k.kind == "scalar" else None: v.data() for k, v in self.entries}
        if self.kind == "list":
            return [item.data() for item in self.items]
        return self.value


@dataclass(slots=True, kw_only=True)
class Document:
    """A read file: its nodes, its lines for quoting, and what was found wrong so far."""

    file: str
    prefix: str  # of the codes: C for site files, P for profiles
    lines: list[str] = field(default_factory=list)
    root: Node | None = None
    problems: list[Problem] = field(default_factory=list)
    secret_lines: set[int] = field(default_factory=set)

    @property
    def failed(self) -> bool:
        """Tell whether anything forbids loading."""
        return errors_in(self.problems) > 0

    def add(
        self,
        number: int,
        message: str,
        node: Node | None,
        *,
        help: str = "",
        severity: Severity = "error",
        secret: bool = False,
    ) -> None:
        """Note a problem at ``node``; ``secret`` keeps the line out of the report.

        What follows from a mistake already noted at the same place is left out.
        """
        line, column = (node.line, node.column) if node else (0, 0)
        if secret:
            self.secret_lines.add(line)
            self.problems = [
                dataclasses.replace(p, source_line="") if p.line == line else p
                for p in self.problems
            ]
        code = f"{self.prefix}{number:03d}"
        here = [p for p in self.problems if line and (p.line, p.column) == (line, column)]
        if any(p.code.endswith(_READING) for p in here):
            return
        if any(p.code == code and (p.message == message or not code.endswith(_MANY)) for p in here):
            return
        quotable = 0 < line <= len(self.lines) and line not in self.secret_lines
        source = self.lines[line - 1] if quotable else ""
        found = Problem(
            code=code,
            severity=severity,
            message=_printable(message),
            file=self.file,
            line=line,
            column=column,
            source_line=_printable(source),
            width=node.width if node else 1,
            help=_printable(help),
        )
        self.problems.append(found)

    def warn(self, number: int, message: str, node: Node | None, *, help: str = "") -> None:
        """Note a problem that does not forbid loading."""
        self.add(number, message, node, help=help, severity="warning")

    def raise_if_failed(self) -> None:
        """Raise with every problem when one of them is an error."""
        if self.failed:
            raise ConfigFileError(self.problems)


def _printable(text: str) -> str:
    """Keep control characters of a file out of the terminal."""
    return "".join(
        c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant."""
    known = list(words)
    lowered = {w.lower(): w for w in known}
    if word.lower() in lowered:
        return lowered[word.lower()]
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def read_file(path: Path, *, prefix: str) -> Document:
    """Read a file; a missing, huge or non-UTF-8 one is a problem, not an exception."""
    document = Document(file=str(path), prefix=prefix)
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        document.add(
            1, f"cannot read the file: {reason}", None, help="check the path and its permissions"
        )
        return document
    if len(raw) > FILE_BYTES_MAX:
        document.add(1, f"the file is larger than {FILE_BYTES_MAX >> 10} KiB", None)
        return document
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Node(kind="scalar", line=raw[: error.start].count(b"\n") + 1, column=1)
        document.add(2, "this byte is not UTF-8", place, help="save the file as UTF-8")
        return document
    return _read(document, text)


def read_text(text: str, *, file: str, prefix: str) -> Document:
    """Read text that came from elsewhere than a file."""
    return _read(Document(file=file, prefix=prefix), text)


def _read(document: Document, text: str) -> Document:
    document.lines = re.split(r"\r\n|\n|\r|\x85|\u2028|\u2029", text)
    builder = _Builder(document)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser; what matters is checked below
            for event in YAML(typ="safe", pure=True).parse(text):
                if not builder.take(event):
                    return document
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(str(m) for m in (error.context, error.problem) if m)
        place = _at(mark.line, mark.column) if mark else None
        document.add(2, f"not YAML: {message}", place, help=_syntax_help(message))
        return document
    except (
        YAMLError,
        ValueError,
        OverflowError,
        AssertionError,
        AttributeError,
        TypeError,
        LookupError,
    ) as error:
        # The parser lets a few of its own failures through on hostile text (bad escapes, odd
        # directives); for the reader of the message they are all the same mistake.
        document.add(
            2, f"not YAML: {str(error).splitlines()[0] if str(error) else 'unreadable'}", None
        )
        return document
    document.root = builder.root
    if builder.root is None:
        document.add(2, "the file is empty", None, help="see `sopgw config schema` for its shape")
    elif builder.root.kind != "map":
        document.add(13, "the file must be a map of keys", builder.root)
    return document


def _syntax_help(message: str) -> str:
    if "tab" in message or "\\t" in message:
        return "indent with spaces, not tabs"
    if "mapping values" in message:
        return "put text with a colon in quotes, and a space after each key's colon"
    if "flow" in message or "expected ','" in message:
        return "check commas and the closing bracket or brace"
    if "quoted" in message or "scalar" in message:
        return "close the quotes"
    return "check the indentation and the brackets of this line and the one above"


def _at(line: int, column: int, width: int = 1) -> Node:
    return Node(kind="scalar", line=line + 1, column=column + 1, width=max(1, width))


def _resolve(text: str) -> Any:
    """Apply the YAML 1.2 core rules to a plain scalar; numbers stay exact."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= NUMBER_LENGTH_MAX:
        if _INT.match(text):
            return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
        if _FLOAT.match(text):
            return Decimal(text)
    return text


@dataclass(slots=True)
class _Open:
    """A map or list whose end was not seen yet."""

    is_map: bool
    start: Node
    key: Node | None = None
    entries: list[tuple[Node, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    seen: dict[str, Node] = field(default_factory=dict)


class _Builder:
    """Makes nodes of parser events without recursion."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.root: Node | None = None
        self._open: list[_Open] = []
        self._documents_count = 0

    def take(self, event: Any) -> bool:
        """Take one event; False stops reading."""
        if isinstance(event, DocumentStartEvent):
            return self._start_document(event)
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._plain_data_only(event)
            if len(self._open) >= DEPTH_MAX:
                place = _at(event.start_mark.line, event.start_mark.column)
                self.document.add(2, f"nested more than {DEPTH_MAX} deep", place)
                return False
            start = _at(event.start_mark.line, event.start_mark.column)
            self._open.append(_Open(isinstance(event, MappingStartEvent), start))
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            done = self._open.pop()
            self._place(
                Node(
                    kind="map" if done.is_map else "list",
                    line=done.start.line,
                    column=done.start.column,
                    entries=tuple(done.entries),
                    items=tuple(done.items),
                )
            )
        elif isinstance(event, ScalarEvent):
            self._plain_data_only(event)
            self._place(self._scalar(event))
        elif isinstance(event, AliasEvent):
            place = _at(event.start_mark.line, event.start_mark.column, len(event.anchor) + 1)
            self.document.add(
                4,
                f"alias “*{event.anchor}”",
                place,
                help="write the value out: these files are plain data",
            )
            self._place(place)
        return True

    def _start_document(self, event: Any) -> bool:
        self._documents_count += 1
        place = _at(event.start_mark.line, event.start_mark.column)
        if self._documents_count > 1:
            self.document.add(
                4,
                "a second document begins here",
                place,
                help="one file, one document: take out the `---`",
            )
            return False
        if event.version or event.tags:
            self.document.add(
                4, "a directive stands before the document", place, help="take the `%` line out"
            )
        return True

    def _plain_data_only(self, event: Any) -> None:
        place = _at(event.start_mark.line, event.start_mark.column)
        if event.anchor:
            self.document.add(
                4,
                f"anchor “&{event.anchor}”",
                place,
                help="write the value out where it is needed: these files are plain data",
            )
        if event.tag and event.tag != "!":
            self.document.add(
                4, f"tag “{event.tag}”", place, help="take the tag out: these files are plain data"
            )

    def _scalar(self, event: Any) -> Node:
        start, end = event.start_mark, event.end_mark
        line = self.document.lines[start.line] if start.line < len(self.document.lines) else ""
        width = end.column - start.column if end.line == start.line else len(line) - start.column
        text = event.value
        return Node(
            kind="scalar",
            line=start.line + 1,
            column=start.column + 1,
            width=max(1, width),
            value=_resolve(text) if event.style is None and not event.tag else text,
            text=text,
        )

    def _place(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if not parent.is_map:
            parent.items.append(node)
        elif parent.key is None:
            parent.key = node
            self._check_key(parent, node)
        else:
            parent.entries.append((parent.key, node))
            parent.key = None

    def _check_key(self, parent: _Open, key: Node) -> None:
        if key.kind != "scalar":
            self.document.add(13, "a key must be a word", key)
            return
        if key.text == "<<":
            self.document.add(
                4, "merge key “<<”", key, help="write the values out, or use `like:` in a profile"
            )
        if key.meaning in parent.seen:
            first = parent.seen[key.meaning]
            self.document.add(
                3,
                f"key “{key.text}” stands here a second time (first in line {first.line})",
                key,
                help="take one of them out, or rename it",
            )
        parent.seen.setdefault(key.meaning, key)
