"""The points of a profile as they stand in the file, for checks of files with mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gateway.config.yaml_reader import Node
from gateway.devices.profile import REGISTERS_OF, PointType

REGISTER_COUNT_OF = {str(kind): count for kind, count in REGISTERS_OF.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PointAt:
    """One point of the file; those of ``each_terminal`` as the first terminal has them."""

    name: str  # within its table
    full_name: str  # ``t1.p`` for a point of each terminal
    key: Node
    node: Node
    block: str  # "" for plain points
    stride_size: int
    table: str
    address: int | None
    register_count: int | None

    @property
    def type(self) -> str:
        """Name of the type, the default when left out."""
        return self.node.word("type") or "uint16"

    @property
    def unit(self) -> str:
        """Unit as written."""
        return self.node.word("unit") or ""

    @property
    def writable(self) -> bool:
        """Tell whether the point may be written."""
        return (self.node.word("access") or "r") != "r"

    def place(self, key: str) -> Node:
        """Return where to point for ``key``: its value, else the point's name."""
        return self.node.get(key) or self.key


def whole(node: Node | None) -> int | None:
    """Read a whole number; None when there is none."""
    if node is None or isinstance(node.value, bool) or not isinstance(node.value, int):
        return None
    return node.value


def split_register(text: str | None) -> tuple[str, int | None]:
    """Read ``input/1100``; no address when it is not one."""
    table, _, address = (text or "").partition("/")
    if table not in ("coil", "discrete", "input", "holding"):
        return "", None
    try:
        return table, int(address, 0)
    except ValueError:
        return table, None


def _register_count(node: Node) -> int | None:
    kind = node.word("type") or "uint16"
    if kind == str(PointType.STRING):
        return whole(node.get("length"))
    return REGISTER_COUNT_OF.get(kind)


def points_of(root: Node) -> Iterator[PointAt]:
    """Yield every point of a merged profile."""
    points = root.get("points")
    for name, key, node in points.pairs() if points is not None else ():
        table, address = split_register(node.word("reg"))
        yield PointAt(
            name=name,
            full_name=name,
            key=key,
            node=node,
            block="",
            stride_size=0,
            table=table,
            address=address,
            register_count=_register_count(node),
        )
    blocks = root.get("each_terminal", "blocks")
    for block_name, _, block in blocks.pairs() if blocks is not None else ():
        table, first = split_register(block.word("reg"))
        inner = block.get("points")
        for name, key, node in inner.pairs() if inner is not None else ():
            offset = whole(node.get("offset"))
            yield PointAt(
                name=name,
                full_name=f"t1.{name}",
                key=key,
                node=node,
                block=block_name,
                stride_size=whole(block.get("stride")) or 0,
                table=table,
                address=None if first is None or offset is None else first + offset,
                register_count=_register_count(node),
            )


def terminal_count(root: Node) -> int:
    """Return how many terminals the profile repeats its blocks for."""
    count = whole(root.get("each_terminal", "count"))
    return count if count is not None and 0 < count <= 64 else 0
