"""What a profile's keys must mean together: units, references, readbacks, labels.

Works on nodes and passes over what has no shape, so that one mistake does not hide another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from gateway.config.profile_build import amount_of, rate_of
from gateway.config.profile_drivers import check_drivers
from gateway.config.profile_points import PointAt, points_of, whole
from gateway.config.profile_registers import check_registers
from gateway.config.profile_relations import Names, check_command, check_relations, check_vectors
from gateway.config.shape import quoted
from gateway.config.yaml_reader import Document, Node, nearest
from gateway.model.units import DIMENSION_OF, UnitError

UNITLESS = ("enum16", "enum32", "bits16", "bits32", "bits64", "string", "bool", "sunssf")
LABELLED = ("enum16", "enum32", "uint16", "bool")
SETTING_DIMENSIONS = ("power", "reactive_power", "apparent_power", "current", "voltage")


def check(document: Document, root: Node) -> None:
    """Note every problem of meaning; parts that have no shape are left out."""
    points = list(points_of(root))
    names = Names(document, root, points)
    check_registers(document, root, points)
    for point in points:
        if point.node.kind == "map":
            _unit(document, point)
            _labels(document, point)
            _write_side(document, names, point)
            _references(document, names, point)
    _identify(document, root)
    check_command(document, names, root)
    check_relations(document, names, root)
    check_vectors(document, names, root)
    check_drivers(document, names, root)
    _whole_profile(document, root, points)


def _unit(document: Document, point: PointAt) -> None:
    unit_node = point.node.get("unit")
    unit = point.unit
    if unit and unit not in DIMENSION_OF:
        near = nearest(unit, DIMENSION_OF)
        help_text = f"known units: {', '.join(DIMENSION_OF)}"
        if near and near.lower() == unit.lower():
            help_text = f"write `unit: {near}` (units are case-sensitive: {near}, not {unit})"
        elif near:
            help_text = f"did you mean `unit: {near}`?"
        document.add(
            12, f"unknown unit “{unit}” for point “{point.full_name}”", unit_node, help=help_text
        )
        return
    if unit and point.type in UNITLESS:
        message = f"“{point.full_name}” is {point.type} and has no unit"
        document.add(
            39, message, unit_node, help="take `unit:` out, or give the point a number type"
        )
    for key in ("safe", "expect"):
        _amount(document, point, point.node.get(key))
    _range(document, point)
    ramp = point.node.get("ramp")
    if ramp is not None:
        try:
            rate_of(ramp.value, unit)
        except UnitError as error:
            document.add(12, str(error), ramp, help=error.help)
        except ValueError as error:
            document.add(12, f"{quoted(ramp.text)}: {error}", ramp, help="write it like `200 kW/s`")


def _amount(document: Document, point: PointAt, node: Node | None) -> Decimal | None:
    if node is None or node.kind != "scalar":
        return None
    try:
        return amount_of(node.value, point.unit)
    except UnitError as error:
        document.add(12, f"“{point.full_name}” is in {point.unit}: {error}", node, help=error.help)
    except ValueError as error:
        document.add(13, f"{quoted(node.text)}: {error}", node, help="write a number")
    return None


def _range(document: Document, point: PointAt) -> None:
    node = point.node.get("range")
    if node is None or len(node.items) != 2:
        return
    low, high = (_amount(document, point, item) for item in node.items)
    if low is None or high is None:
        return
    if low >= high:
        message = f"the range of “{point.full_name}” is upside down"
        document.add(
            33, message, node, help=f"write `[{node.items[1].text}, {node.items[0].text}]`"
        )
        return
    safe_node = point.node.get("safe")
    if safe_node is None:
        return
    try:
        safe = amount_of(safe_node.value, point.unit)
    except ValueError:
        return
    if not low <= safe <= high:
        message = f"the safe value of “{point.full_name}” lies outside its range"
        document.add(
            33,
            message,
            safe_node,
            help=f"write a value from {node.items[0].text} to {node.items[1].text}",
        )


def _labels(document: Document, point: PointAt) -> None:
    for table in ("enum", "map", "bits"):
        labels = point.node.get(table)
        if labels is None or labels.kind != "map":
            continue
        seen: dict[str, Node] = {}
        for _, key, value in labels.pairs():
            if value.text in seen:
                message = f"the word “{value.text}” stands for two numbers"
                first = seen[value.text].line
                document.add(
                    30,
                    message,
                    value,
                    help=f"call one of them differently (the other is in line {first})"
                    if first != value.line
                    else "call one of them differently",
                )
            seen.setdefault(value.text, value)
            if whole(key) is not None and (whole(key) or 0) < 0:
                document.add(
                    30,
                    f"label of {key.text}: registers hold no negative codes",
                    key,
                    help="write the number as the register shows it",
                )
        if table == "enum" and point.type not in LABELLED:
            message = f"“{point.full_name}” is {point.type} and has words for numbers"
            document.add(
                30, message, point.place("enum"), help="give it `type: enum16`, or use `bits:`"
            )
    if point.type in ("enum16", "enum32") and not point.node.get("enum"):
        document.warn(
            29,
            f"“{point.full_name}” is an enumeration without words",
            point.key,
            help="add `enum: {0: off, 1: on}`",
        )


def _write_side(document: Document, names: Names, point: PointAt) -> None:
    node = point.node
    dimension = DIMENSION_OF.get(point.unit, "")
    if point.writable:
        settings = dimension in SETTING_DIMENSIONS or node.get("safe") is not None
        if settings and node.get("readback") is None and point.name not in names.commanding:
            document.warn(
                31,
                f"writable point “{point.full_name}” has no readback",
                point.key,
                help=f"add `readback: {point.name}_fb` so that a write can be verified",
            )
        if node.word("storage") == "nonvolatile" and node.get("max_writes") is None:
            document.warn(
                34,
                f"“{point.full_name}” wears memory and has no budget",
                point.place("storage"),
                help="add `max_writes: 10000` from the manual",
            )
        code = whole(node.get("write", "fc"))
        if code in (5, 6) and (point.register_count or 1) > 1:
            message = f"function {code} writes one register, “{point.full_name}” has more"
            document.add(42, message, node.get("write", "fc"), help="write `fc: 16`")
        if (code in (5, 15) and point.table == "holding") or (
            code in (6, 16) and point.table == "coil"
        ):
            message = f"function {code} does not write {point.table} registers"
            document.add(
                42, message, node.get("write", "fc"), help="holding: 6 or 16; coil: 5 or 15"
            )
    else:
        for key in ("range", "safe", "ramp", "readback", "effect", "storage", "max_writes"):
            if node.get(key) is not None and node.get("access") is None:
                message = f"`{key}` on “{point.full_name}”, which is not writable"
                document.add(48, message, node.key(key), help="add `access: rw`, or take it out")
    if node.word("role") == "heartbeat" and (not point.writable or node.get("behaviour") is None):
        document.add(
            40,
            f"heartbeat “{point.full_name}” must be writable and say how it changes",
            point.place("role"),
            help="add `access: rw, behaviour: increment`",
        )
    count = whole(node.get("count"))
    if count is not None and count > 1:
        document.add(
            54,
            f"“{point.full_name}” holds {count} values",
            point.place("count"),
            help="write one point a value; `count:` is for `identify: check:`",
        )


def _references(document: Document, names: Names, point: PointAt) -> None:
    inside = bool(point.block)
    readback = names.find(point.node.get("readback"), from_block=inside)
    if readback is not None and readback.key is point.key:
        message = f"“{point.full_name}” is its own readback"
        document.add(
            23, message, point.place("readback"), help="name the point that shows the active value"
        )
    elif readback is not None and point.unit and readback.unit:
        ours, theirs = (DIMENSION_OF.get(u) for u in (point.unit, readback.unit))
        if ours and theirs and ours != theirs:
            message = f"“{point.full_name}” is in {point.unit}, its readback in {readback.unit}"
            document.add(
                20, message, point.place("readback"), help="name a readback of the same kind"
            )
    names.find(point.node.get("effect", "point"), from_block=inside)
    names.find(point.node.get("scale_point"), from_block=inside)


def _identify(document: Document, root: Node) -> None:
    checks = root.get("identify", "check")
    for item in checks.items if checks is not None else ():
        unit = item.word("unit") or ""
        unit_node = item.get("unit")
        if unit and unit not in DIMENSION_OF:
            near = nearest(unit, DIMENSION_OF)
            document.add(
                12,
                f"unknown unit “{unit}”",
                unit_node,
                help=f"write `unit: {near}`" if near else f"known units: {', '.join(DIMENSION_OF)}",
            )
            continue
        between = item.get("between")
        values = []
        for bound in between.items if between is not None else ():
            try:
                values.append(amount_of(bound.value, unit))
            except UnitError as error:
                document.add(12, str(error), bound, help=error.help)
            except ValueError as error:
                document.add(13, f"{quoted(bound.text)}: {error}", bound, help="write a number")
        if len(values) == 2 and values[0] > values[1]:
            document.add(
                33, "these bounds are upside down", between, help="write the lower value first"
            )


def _whole_profile(document: Document, root: Node, points: Sequence[PointAt]) -> None:
    kind = root.get("kind")
    if not points and root.get("points") is None and root.get("each_terminal") is None:
        document.add(
            11,
            "key `points` is missing",
            root,
            help="add `points: {p: {reg: input/0, type: int32, unit: W}}`",
        )
        return
    dimensions = {DIMENSION_OF.get(p.unit, "") for p in points}
    if "power" in dimensions and root.get("sign", "p") is None:
        document.add(
            52,
            "power points, and no word on which direction is positive",
            kind or root,
            help="add `sign: {p: inject_positive}` or `import_positive`",
        )
    if root.word("protocol") == "modbus" and root.get("tests") is None and kind is not None:
        document.warn(
            38,
            "no test vectors: a wrong word order would go unseen",
            kind,
            help="add `tests:` with registers and their value from the manual",
        )
    for point in points:
        node = point.node.get("node")
        if node is not None and re.match(r"ns=\d", node.text):
            document.add(
                47,
                f"“{node.text}” names its namespace by number, which may change at a restart",
                node,
                help="write `nsu=…;s=…` and name it under `namespaces:`",
            )
