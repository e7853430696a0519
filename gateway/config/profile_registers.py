"""Where the points of a profile stand: overlaps, the manual's numbers, what cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.config.profile_points import PointAt, split_register, terminal_count, whole
from gateway.config.yaml_reader import Document, Node, nearest

ADDRESS_MAX = 0xFFFF
MODICON: Mapping[str, tuple[int, ...]] = {
    "coil": (1,),
    "discrete": (10_001, 100_001),
    "input": (30_001, 300_001),
    "holding": (40_001, 400_001),
}


def check_registers(document: Document, root: Node, points: Sequence[PointAt]) -> None:
    """Note every problem of place."""
    modbus = (root.word("protocol") or "modbus") == "modbus"
    for point in points:
        _place(document, point, modbus=modbus)
    if modbus:
        _overlaps(document, points, terminal_count(root))
        _blocks(document, root, points)
        _numbers(document, root, points)
        _forbidden(document, root, points)


def _place(document: Document, point: PointAt, *, modbus: bool) -> None:
    node = point.node
    if node.kind != "map":
        return
    if not modbus:
        if not any(node.get(key) for key in ("node", "path", "method")):
            message = f"point “{point.name}” has no place on the server"
            document.add(25, message, point.key, help='add `node: "nsu=…;s=…"` or `path:`')
        return
    misspelt = any(nearest(name, ("reg",)) for name, _, _ in node.pairs())
    if not point.block and node.get("reg") is None and not misspelt:
        message = f"point “{point.name}” has no register"
        document.add(25, message, point.key, help="add `reg: holding/0`, table and wire address")
    if point.address is not None:
        last = point.address + (point.register_count or 1) - 1
        if last > ADDRESS_MAX:
            message = f"register {point.table}/{last} is beyond the last, {ADDRESS_MAX}"
            document.add(
                37, message, point.place("reg"), help="addresses are 0 to 65535 on the wire"
            )
    if point.type == "string" and node.get("length") is None:
        message = f"text point “{point.name}” has no length"
        document.add(36, message, point.key, help="add `length: 8`, in registers")
    if point.writable and point.table in ("input", "discrete"):
        message = f"“{point.name}” is writable, but {point.table} registers cannot be written"
        document.add(
            32, message, point.place("access"), help="take `access:` out, or use holding or coil"
        )
    _bit(document, point)


def _bit(document: Document, point: PointAt) -> None:
    bit = whole(point.node.get("bit"))
    if bit is not None and point.register_count and bit >= 16 * point.register_count:
        message = f"bit {bit} is beyond the {16 * point.register_count} bits of {point.type}"
        document.add(
            35,
            message,
            point.place("bit"),
            help=f"bits go from 0 to {16 * point.register_count - 1}",
        )
    bits = point.node.get("bits")
    for text, key, _ in bits.pairs() if bits is not None else ():
        number = whole(key)
        width = 16 * (point.register_count or 4)
        if number is not None and not 0 <= number < width:
            message = f"bit {text} is beyond the {width} bits of {point.type}"
            document.add(35, message, key, help=f"bits go from 0 to {width - 1}")


def _shares_on_purpose(one: PointAt, other: PointAt) -> bool:
    """Bits of one register, a bit beside the word that holds it, or a declared overlap."""
    bits = [p.node.get("bit") is not None for p in (one, other)]
    if all(bits):
        return one.node.word("bit") != other.node.word("bit")
    if any(bits):
        return True
    return one.node.word("overlap") == "ok" and other.node.word("overlap") == "ok"


def _overlaps(document: Document, points: Sequence[PointAt], terminals: int) -> None:
    """Compare every point, repeated for each terminal, with its neighbour in the table."""
    # A block that reaches into its own next repetition is told by its stride.
    placed: list[tuple[str, int, int, str, PointAt]] = []
    for point in points:
        if point.address is None or not point.register_count:
            continue
        for index in range(terminals if point.block else 1):
            first = point.address + index * point.stride_size
            name = f"t{index + 1}.{point.name}" if point.block else point.name
            placed.append((point.table, first, first + point.register_count - 1, name, point))
    placed.sort(key=lambda p: (p[0], p[1], p[2], p[4].key.line, p[3]))
    widest: tuple[str, int, int, str, PointAt] | None = None
    told: set[tuple[int, int]] = set()
    for entry in placed:
        table, first, last, name, point = entry
        if widest is not None and widest[0] == table and first <= widest[2]:
            _, _, _, other_name, other = widest
            early, late = sorted(((other_name, other), (name, point)), key=lambda p: p[1].key.line)
            pair = (early[1].key.line, late[1].key.line)
            repeated = (
                point.block
                and point.block == other.block
                and name.partition(".")[0] != other_name.partition(".")[0]
            )
            if pair not in told and not repeated and not _shares_on_purpose(point, other):
                told.add(pair)
                line = early[1].key.line
                message = f"register {table}/{first} is already used by “{early[0]}” (line {line})"
                help_text = "move one of them, or mark both `overlap: ok`"
                if (early[1].register_count or 1) > 1:
                    help_text = (
                        f"“{early[0]}” takes {early[1].register_count} registers; " + help_text
                    )
                place = late[1].place("offset" if late[1].block else "reg")
                document.add(21, message, place, help=help_text)
        if widest is None or widest[0] != table or last > widest[2]:
            widest = entry


def _blocks(document: Document, root: Node, points: Sequence[PointAt]) -> None:
    blocks = root.get("each_terminal", "blocks")
    for name, _, block in blocks.pairs() if blocks is not None else ():
        stride_node = block.get("stride")
        stride = whole(stride_node)
        for point in points:
            offset = whole(point.node.get("offset")) if point.block == name else None
            if offset is None or stride is None or point.register_count is None:
                continue
            if offset + point.register_count > stride:
                message = f"“{point.name}” reaches into the next terminal: the stride is {stride}"
                document.add(
                    43,
                    message,
                    point.place("offset"),
                    help=f"raise `stride:` (line {block.line}) or lower the offset",
                )


def _wanted_numbers(point: PointAt, numbering: str) -> tuple[int, ...]:
    assert point.address is not None
    if numbering == "address":
        return (point.address,)
    if numbering == "one_based":
        return (point.address + 1,)
    return tuple(base + point.address for base in MODICON.get(point.table, ()))


def _numbers(document: Document, root: Node, points: Sequence[PointAt]) -> None:
    """Hold the manual's number against the address; count one off is the usual mistake."""
    numbered = [p for p in points if p.address is not None and whole(p.node.get("doc")) is not None]
    if not numbered:
        return
    given = root.word("modbus", "numbering")
    ways = ("address", "one_based", "modicon")
    fitting = {
        way: sum(whole(p.node.get("doc")) in _wanted_numbers(p, way) for p in numbered)
        for way in ways
    }
    way = given if given in ways else max(ways, key=lambda w: fitting[w])
    for point in numbered:
        number = whole(point.node.get("doc"))
        wanted = _wanted_numbers(point, str(way))
        if number is None or number in wanted or not wanted:
            continue
        assert point.address is not None
        meant = number - (wanted[0] - point.address)
        place = point.place("reg") if not point.block else point.place("offset")
        message = f"the manual's {number} is address {meant}, but the profile says {point.address}"
        if way == "modicon":
            help_text = f"Modicon numbers count from 1: {number} → {point.table}/{meant}"
        elif way == "one_based":
            help_text = f"this manual counts from 1: {number} → {point.table}/{meant}"
        else:
            help_text = f"write `doc: {wanted[0]}` or `{point.table}/{meant}`"
        if given is not None and fitting[str(way)] == 0:
            better = max(ways, key=lambda w: fitting[w])
            if fitting[better]:
                help_text += f"; all numbers fit `numbering: {better}`"
        document.add(22, message, place, help=help_text)


def _forbidden(document: Document, root: Node, points: Sequence[PointAt]) -> None:
    spans = root.get("modbus", "forbidden")
    for span in spans.items if spans is not None else ():
        register, _, count_text = span.text.partition("+")
        table, first = split_register(register)
        if first is None or not count_text.isdigit():
            continue
        last = first + int(count_text) - 1
        for point in points:
            if point.table != table or point.address is None or not point.register_count:
                continue
            if point.address <= last and first <= point.address + point.register_count - 1:
                message = (
                    f"“{point.name}” stands in registers that must not be read (line {span.line})"
                )
                document.add(
                    51,
                    message,
                    point.place("reg"),
                    help="take the point out, or narrow `forbidden:`",
                )
