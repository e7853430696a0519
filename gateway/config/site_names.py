"""References to devices by name, and names that may be used once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gateway.config.shape import quoted
from gateway.config.yaml_reader import Document, Node, nearest
from gateway.devices.profile import Profile


class Known:
    """What a site's devices are: their names, and what their profiles told."""

    def __init__(
        self,
        *,
        document: Document,
        names: list[str],
        kinds: Mapping[str, str],
        counts: Mapping[str, int],
        lacking: Mapping[str, Sequence[str]],
        undrivable: Mapping[str, str],
        profiles: Mapping[str, Profile],
    ) -> None:
        self.document = document
        self.names = names
        self.kinds = kinds
        self.counts = counts
        self.lacking = lacking
        self.undrivable = undrivable
        self.profiles = profiles
        self.stations: dict[str, tuple[str, Node]] = {}
        self.converters: dict[str, tuple[str, Node]] = {}

    def device(self, node: Node | None, wanted: Sequence[str], role: str) -> str | None:
        """Check a reference to a device of one of the wanted kinds; return its name."""
        if node is None or node.kind != "scalar":
            return None
        name = node.text
        if name not in self.names:
            near = nearest(name, self.names)
            help_text = f"did you mean `{near}`?" if near else f"devices: {', '.join(self.names)}"
            self.document.add(22, f"there is no device {quoted(name)}", node, help=help_text)
            return None
        kind = self.kinds.get(name)
        if kind is not None and kind not in wanted:
            right = [n for n in self.names if self.kinds.get(n) in wanted]
            help_text = f"{role}s here: {', '.join(right) or 'none'}"
            self.document.add(23, f"{quoted(name)} is a {kind}, not a {role}", node, help=help_text)
            return None
        return name


def once(
    document: Document,
    seen: dict[str, tuple[str, Node]],
    node: Node | None,
    owner: str,
    number: int,
    words: str,
) -> None:
    """Note a second use of what may stand once."""
    if node is None or node.kind != "scalar":
        return
    if node.meaning in seen:
        other, first = seen[node.meaning]
        message = f"{words} {quoted(node.text)} is already {other}'s (line {first.line})"
        document.add(number, message, node, help=f"give each its own {words}")
    seen.setdefault(node.meaning, (owner, node))
