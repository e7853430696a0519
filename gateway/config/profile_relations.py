"""What a profile's keys say about each other: commands, interlocks, identities, vectors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gateway.config.profile_build import value_of
from gateway.config.profile_points import PointAt, terminal_count
from gateway.config.shape import quoted
from gateway.config.yaml_reader import Document, Node, nearest
from gateway.model.units import DIMENSION_OF, UnitError

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*")
FUNCTIONS = frozenset({"sqrt", "abs", "min", "max", "and", "or", "not", "in"})
STATION_BLOCK_HELP = "see `command:` in configs/profiles/sop-station-v1.yaml"


class Names:
    """Which points there are, and how they are called from where."""

    def __init__(self, document: Document, root: Node, points: Sequence[PointAt]) -> None:
        self.document = document
        self.plain = {p.name: p for p in points if not p.block}
        self.each = {p.name: p for p in points if p.block}
        self.expanded = dict(self.plain)
        for index in range(terminal_count(root)):
            for name, point in self.each.items():
                self.expanded[f"t{index + 1}.{name}"] = point
        command = root.get("command")
        self.commanding = set(_words_in(command)) if command is not None else set()

    def find(self, node: Node | None, *, from_block: bool = False) -> PointAt | None:
        """Follow a reference; an unknown name is noted."""
        if node is None or node.kind != "scalar":
            return None
        known = {**self.expanded, **self.each} if from_block else self.expanded
        found = known.get(node.text)
        if found is None:
            near = nearest(node.text, known)
            help_text = f"did you mean `{near}`?" if near else "name a point of this profile"
            self.document.add(23, f"there is no point {quoted(node.text)}", node, help=help_text)
        return found


def _words_in(node: Node) -> Iterable[str]:
    if node.kind == "scalar":
        yield node.text
    for item in node.items:
        yield from _words_in(item)
    for _, value in node.entries:
        yield from _words_in(value)


def check_command(document: Document, names: Names, root: Node) -> None:
    """Check the points a station is commanded by."""
    command = root.get("command")
    if command is None:
        # On OPC UA commands are Methods, which the driver finds by the names of their points.
        if root.word("kind") == "station" and root.word("protocol") != "opcua":
            document.add(
                49,
                "a station without `command:` cannot be told anything",
                root.get("kind"),
                help=STATION_BLOCK_HELP,
            )
        return
    staged = command.get("staged")
    for item in staged.items if staged is not None else ():
        point = names.each.get(item.text)
        if point is None or point.block != "staged":
            near = nearest(item.text, [n for n, p in names.each.items() if p.block == "staged"])
            document.add(
                23,
                f"there is no staged point {quoted(item.text)}",
                item,
                help=f"did you mean `{near}`?"
                if near
                else "name points of the block `staged` of `each_terminal:`",
            )
    for path in (
        ("sequence",),
        ("code",),
        ("argument",),
        ("crc", "point"),
        ("instruction_id",),
        ("ttl",),
        ("lease",),
        ("heartbeat", "point"),
        ("heartbeat", "echo"),
        ("watchdog", "timeout"),
        ("watchdog", "failsafe"),
        ("watchdog", "ramp"),
        ("watchdog", "remaining"),
        ("echo", "sequence"),
        ("echo", "code"),
        ("echo", "instruction_id"),
    ):
        node = command.get(*path)
        found = names.find(node)
        writes = path[0] not in ("echo",) and path[-1] not in ("echo", "remaining")
        if found is not None and writes and not found.writable:
            message = f"“{found.full_name}” takes part in commands and is not writable"
            document.add(48, message, node, help=f"give it `access: rw` (line {found.key.line})")


def check_relations(document: Document, names: Names, root: Node) -> None:
    """Check interlocks and identities."""
    interlocks = root.get("interlocks")
    for item in interlocks.items if interlocks is not None else ():
        blocked = item.get("block")
        for node in blocked.items if blocked is not None else ():
            names.find(node)
        _expression(document, names, item.get("when"), labels=True)
    identities = root.get("identities")
    for item in identities.items if identities is not None else ():
        expression = item.get("expr")
        _expression(document, names, expression, labels=False)
        if expression is not None and expression.text.count("~") != 1:
            document.add(
                46, "an identity has two sides", expression, help="write it like `p1 + p2 + p3 ~ p`"
            )


def _expression(document: Document, names: Names, node: Node | None, *, labels: bool) -> None:
    if node is None or node.kind != "scalar":
        return
    words: set[str] = set()
    if labels:
        for point in names.expanded.values():
            for table in ("enum", "map", "bits"):
                found = point.node.get(table)
                words |= {v.text for _, _, v in found.pairs()} if found is not None else set()
    known = {*names.expanded, *FUNCTIONS, *words}
    # A word with a dash is a label; take those out before looking for names.
    text = node.text
    for word in sorted((w for w in words if not NAME.fullmatch(w)), key=len, reverse=True):
        text = text.replace(word, " ")
    for name in NAME.findall(text):
        if name not in known:
            near = nearest(name, known)
            document.add(
                44 if labels else 46,
                f"“{name}” is no point of this profile" + (" and no word of one" if labels else ""),
                node,
                help=f"did you mean `{near}`?" if near else "use names of points",
            )


def check_vectors(document: Document, names: Names, root: Node) -> None:
    """Check the vectors as far as that goes without decoding."""
    tests = root.get("tests")
    for item in tests.items if tests is not None else ():
        point = names.find(item.get("point"))
        registers = item.get("registers")
        both = item.get("value") is not None and item.get("write") is not None
        if both or (item.get("value") is None and item.get("write") is None):
            document.add(
                27,
                "a vector has either `value` or `write`",
                item,
                help="`value` for what the registers mean, `write` for what makes them",
            )
        if point is None:
            continue
        if (
            registers is not None
            and point.register_count
            and registers.kind == "list"
            and len(registers.items) != point.register_count
        ):
            count = len(registers.items)
            message = f"“{point.full_name}” takes {point.register_count} registers, not {count}"
            document.add(
                27,
                message,
                registers,
                help=f"write {point.register_count}, high word as on the wire",
            )
        written = item.get("write")
        if written is not None and written.text == "none":
            message = f"nothing can not be written to “{point.full_name}”"
            document.add(27, message, written, help="write `value: none` for what is no value")
            continue
        _vector_value(document, point, written or item.get("value"))


def _vector_value(document: Document, point: PointAt, node: Node | None) -> None:
    if node is None or node.kind != "scalar" or (point.unit and point.unit not in DIMENSION_OF):
        return
    try:
        value = value_of(node.value, point.unit, type_name=point.type)
    except UnitError as error:
        document.add(12, f"“{point.full_name}” is in {point.unit}: {error}", node, help=error.help)
        return
    except ValueError as error:
        document.add(13, f"{quoted(node.text)}: {error}", node, help="write a number with its unit")
        return
    labels = point.node.get("enum") or point.node.get("map")
    if isinstance(value, str) and point.type != "string":
        words = [v.text for _, _, v in labels.pairs()] if labels is not None else []
        if value not in words:
            near = nearest(value, words)
            document.add(
                29,
                f"“{point.full_name}” knows no word {quoted(value)}",
                node,
                help=f"did you mean `{near}`?" if near else f"words: {', '.join(words) or 'none'}",
            )
