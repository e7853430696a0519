"""Resolves ``defaults:`` and ``like:`` on nodes: every key keeps the place it was written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from gateway.config.yaml_reader import Document, Node, nearest

PLACE_KEYS = frozenset({"reg", "offset", "node", "path", "method", "doc", "page", "iec61850"})


def merged(document: Document, root: Node) -> Node:
    """Return the profile with defaults and likes filled in and terminal blocks gathered."""
    defaults = root.get("defaults")
    given = defaults.entries if defaults is not None and defaults.kind == "map" else ()
    entries = []
    for key, value in root.entries:
        if key.text == "points" and value.kind == "map":
            entries.append((key, _points(document, value, given)))
        elif key.text == "each_terminal" and value.kind == "map":
            entries.append((key, _blocks(document, value, given)))
        else:
            entries.append((key, value))
    return dataclasses.replace(root, entries=tuple(entries))


def _blocks(document: Document, each: Node, defaults: tuple[tuple[Node, Node], ...]) -> Node:
    """Put the freely named blocks under one key, as the shape has them."""
    kept, blocks = [], []
    for key, value in each.entries:
        if key.text == "count":
            kept.append((key, value))
            continue
        block = value
        if value.kind == "map":
            inner = tuple(
                (k, _points(document, v, defaults))
                if k.text == "points" and v.kind == "map"
                else (k, v)
                for k, v in value.entries
            )
            block = dataclasses.replace(value, entries=inner)
        blocks.append((key, block))
    here = Node(kind="scalar", line=each.line, column=each.column, value="blocks", text="blocks")
    gathered = Node(kind="map", line=each.line, column=each.column, entries=tuple(blocks))
    return dataclasses.replace(each, entries=(*kept, (here, gathered)))


def _points(document: Document, points: Node, defaults: tuple[tuple[Node, Node], ...]) -> Node:
    by_name = {key.text: value for key, value in points.entries}
    done = tuple(
        (key, _point(document, key.text, value, by_name, defaults)) for key, value in points.entries
    )
    return dataclasses.replace(points, entries=done)


def _point(
    document: Document,
    name: str,
    point: Node,
    by_name: Mapping[str, Node],
    defaults: tuple[tuple[Node, Node], ...],
) -> Node:
    """Fill a point with what its model says, then with the defaults."""
    if point.kind != "map":
        return point
    entries = {key.text: (key, value) for key, value in point.entries}
    visited = [name]
    while (like := entries.pop("like", None)) is not None:
        key, target = like
        model = by_name.get(target.text)
        if model is None or model.kind != "map":
            near = nearest(target.text, by_name)
            help_text = f"did you mean `{near}`?" if near else "name another point of this table"
            document.add(
                24, f"there is no point “{target.text}” to be like", target, help=help_text
            )
            break
        if target.text in visited:
            chain = " → ".join([*visited, target.text])
            message = f"points are like each other in a circle: {chain}"
            document.add(24, message, target, help="write one of them out")
            break
        visited.append(target.text)
        for model_key, model_value in model.entries:
            if model_key.text not in PLACE_KEYS:
                entries.setdefault(model_key.text, (model_key, model_value))
    typed = "node" in entries or "path" in entries or "method" in entries
    for key, value in defaults:
        if not (typed and key.text == "type"):
            entries.setdefault(key.text, (key, value))
    return dataclasses.replace(point, entries=tuple(entries.values()))
