"""Reads what `sopgw test sweep --save` measured, and narrows a terminal's limits to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from gateway.config.shape import Quantity, Shape, described, held_against, quoted
from gateway.config.site_checks import amount
from gateway.config.site_words import Name
from gateway.config.yaml_reader import Document, Node, read_file
from gateway.model.capability import Capability
from gateway.model.terminal import Sop
from gateway.model.units import kw_text

CORNERS_MIN = 4  # fewer do not enclose zero from all sides


class CornerShape(Shape):
    """A point of the PQ plane that was delivered."""

    p: Annotated[int, Quantity("power")] = described("Active power", example="150 kW")
    q: Annotated[int, Quantity("reactive_power")] = described("Reactive power", example="0 var")


class CapabilityShape(Shape):
    """A measured polygon as it is saved."""

    terminal: Name = described("Which terminal", example="T2")
    s: Annotated[int, Quantity("apparent_power")] = described("Its rating", example="250 kVA")
    corners: tuple[CornerShape, ...] = described("In order of angle", min_length=CORNERS_MIN)


def measured_in(document: Document, folder: Path) -> dict[tuple[str, str], Capability]:
    """Read the capability files that a site file names, by SOP and terminal; note what is wrong."""
    sops = document.root.get("sops") if document.root is not None else None
    found = {}
    for sop_id, _, sop in sops.pairs() if sops is not None else ():
        terminals = sop.get("terminals")
        for terminal_id, _, terminal in terminals.pairs() if terminals is not None else ():
            node = terminal.get("capability")
            if node is None or not isinstance(node.value, str):
                continue
            capability = _read(document, node, folder / node.value, terminal_id, terminal)
            if capability is not None:
                found[sop_id, terminal_id] = capability
    return found


def _read(
    document: Document, node: Node, path: Path, terminal_id: str, terminal: Node
) -> Capability | None:
    inner = read_file(path, prefix="C")
    shape = held_against(inner, CapabilityShape)
    if shape is None or inner.failed:
        document.problems += inner.problems
        if not inner.failed:
            document.add(80, f"{quoted(node.value)} is no capability", node, help=AGAIN)
        return None
    rated_va = amount(terminal.get("s"), "apparent_power")
    as_rated = rated_va is None or rated_va == shape.s
    if shape.terminal != terminal_id or not as_rated:
        other = f"{shape.terminal}, {shape.s / 1000:g} kVA"
        document.add(80, f"that capability is of {other}", node, help=AGAIN)
        return None
    return Capability(
        terminal=terminal_id, s_va=shape.s, corners=tuple((c.p, c.q) for c in shape.corners)
    )


AGAIN = "measure it: sopgw test sweep TERMINAL --save FILE"


def narrowed(sop: Sop, measured: Mapping[tuple[str, str], Capability]) -> Sop:
    """Return the SOP with each terminal's limits narrowed to what it was measured to deliver."""
    terminals = []
    for terminal in sop.terminals:
        capability = measured.get((sop.id, terminal.id))
        if capability is not None:
            low_w, high_w = capability.narrowed(terminal.p_w_min, terminal.p_w_max)
            terminal = replace(terminal, p_w_min=low_w, p_w_max=high_w)
        terminals.append(terminal)
    return replace(sop, terminals=tuple(terminals))


def warn_where_much_is_lost(document: Document, sop: Sop, allowed: Sop) -> None:
    """Warn where less than four fifths of a guard were shown: a short sweep looks like a limit."""
    for before, after in zip(sop.terminals, allowed.terminals, strict=True):
        for was_w, is_w in ((-before.p_w_min, -after.p_w_min), (before.p_w_max, after.p_w_max)):
            if 5 * is_w < 4 * was_w:
                assert document.root is not None
                node = document.root.get("sops", sop.id, "terminals", before.id, "capability")
                document.warn(
                    81,
                    f"{before.id} was measured up to {kw_text(is_w)} of {kw_text(was_w)}",
                    node,
                    help="the envelope keeps to it; sweep with --radius up to 90% to show more",
                )
                break
