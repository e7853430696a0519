"""Builds the profile values of the drivers from a shape in which no mistake is left."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Any

from gateway.config import profile_shape as s
from gateway.devices import profile as p
from gateway.model.units import DIMENSION_OF, parse_quantity

_MILLION = Decimal(1_000_000)
PER_SECOND = {"power": "power_rate", "ratio": "ratio_rate"}


def register_of(text: str) -> p.Register:
    """Read ``input/1100``."""
    table, _, address = text.partition("/")
    return p.Register(table=p.Table(table), address=int(address, 0))


def span_of(text: str) -> p.Span:
    """Read ``input/300+20``."""
    first, _, count = text.partition("+")
    return p.Span(register=register_of(first), count=int(count))


def amount_of(raw: Any, unit: str) -> Decimal:
    """Read a value of a point in base units; a point without unit takes a bare number.

    Raises UnitError, or ValueError when it is no number at all.
    """
    if raw is None or isinstance(raw, bool):
        raise ValueError("not a number")
    if unit in ("", "1") and isinstance(raw, int | Decimal):
        return Decimal(raw)
    if unit == "":
        raise ValueError("this point has no unit: write a bare number")
    return parse_quantity(str(raw), DIMENSION_OF[unit])


def value_of(raw: Any, unit: str, *, type_name: str = "") -> Decimal | str | None:
    """Read the value of a test vector: a quantity, a word, or nothing for ``none``."""
    if raw is None or raw == "none":
        return None
    try:
        return amount_of(raw, unit)
    except ValueError:
        if unit == "" or type_name in ("string", "enum16", "enum32"):
            return str(raw)
        raise


def profile_of(found: s.ProfileShape) -> p.Profile:
    """Build the whole profile."""
    return p.Profile(
        id=found.profile,
        format_version=found.version,
        kind=p.Kind(found.kind),
        protocol=p.Protocol(found.protocol),
        vendor=found.vendor,
        models=found.models,
        manual=found.manual,
        verified=p.Verified(
            level=found.verified.level, on=found.verified.on, firmware=found.verified.firmware
        ),
        license=found.license,
        phases=found.phases,
        identify=_identify(found.identify),
        modbus=_modbus(found.modbus),
        serial=_serial(found.serial) if found.serial else None,
        opcua=_opcua(found) if found.protocol == "opcua" else None,
        namespaces=dict(found.namespaces),
        terminals=found.terminals,
        sign={k: p.Sign(v) for k, v in found.sign.items()},
        points=tuple(point_of(name, body) for name, body in found.points.items()),
        each_terminal=_each_terminal(found.each_terminal) if found.each_terminal else None,
        command=_command(found.command) if found.command else None,
        interlocks=tuple(
            p.Interlock(id=i.id, block=i.block, when=i.when, cause=i.cause)
            for i in found.interlocks
        ),
        identities=tuple(
            p.Identity(id=i.id, expression=i.expr, tolerance_ratio=i.tolerance / _MILLION)
            for i in found.identities
        ),
        tests=tuple(_vector(found, v) for v in found.tests),
        notes=found.notes,
        simulation=_flat(found.sim),
    )


def point_of(name: str, body: s.PointBody, *, register: p.Register | None = None) -> p.Point:
    """Build one point."""
    if isinstance(body, s.PointShape) and body.reg is not None:
        register = register_of(body.reg)
    labels: dict[int, str] = body.enum if isinstance(body.enum, dict) else dict(body.map or {})
    from_server = body.range == "server"
    limits = None if body.range is None or from_server else body.range
    readback = body.readback
    return p.Point(
        name=name,
        type=p.PointType(body.type),
        register=register,
        node=_node(body),
        count=body.count,
        length=body.length,
        bit_index=body.bit,
        scale=body.scale,
        scale_point=body.scale_point,
        unit=body.unit,
        unit_check=body.unit_check,
        byte_order=p.Order(body.byte_order) if body.byte_order else None,
        word_order=p.Order(body.word_order) if body.word_order else None,
        not_available=body.not_available,
        label_by_code=MappingProxyType(dict(labels)),
        labels_from_server=body.enum == "server",
        bits=MappingProxyType(dict(body.bits)),
        access=p.Access(body.access),
        poll_ms=body.poll,
        doc_number=body.doc,
        page=body.page,
        role=body.role,
        behaviour=body.behaviour,
        range=(amount_of(limits[0], body.unit), amount_of(limits[1], body.unit))
        if limits
        else None,
        range_from_server=from_server,
        ramp_limit=rate_of(body.ramp, body.unit) if body.ramp is not None else None,
        readback=readback if isinstance(readback, str) else None,
        readback_node=p.Node(node=readback.node) if isinstance(readback, s.NodeShape) else None,
        effect=_effect(body.effect),
        storage=body.storage,
        write_count_max=body.max_writes,
        write=p.WriteRule(fc_code=body.write.fc, interval_ms_min=body.write.min_interval),
        expect=amount_of(body.expect, body.unit) if body.expect is not None else None,
        safe=amount_of(body.safe, body.unit) if body.safe is not None else None,
        iec61850=body.iec61850,
    )


def rate_of(raw: Any, unit: str) -> Decimal:
    """Read how fast a value may change, per second in the base unit of the point."""
    dimension = DIMENSION_OF.get(unit, "")
    if dimension not in PER_SECOND:
        if isinstance(raw, int | Decimal) and not isinstance(raw, bool):
            return Decimal(raw)
        raise ValueError("a ramp fits powers and percentages only")
    return parse_quantity(str(raw), PER_SECOND[dimension])


def _effect(found: s.EffectShape | None) -> p.Effect | None:
    if found is None:
        return None
    return p.Effect(
        point=found.point, within_ms=found.within, tolerance_ratio=found.tolerance / _MILLION
    )


def _node(body: s.PointBody) -> p.Node | None:
    if not (body.node or body.path or body.method):
        return None
    return p.Node(
        node=body.node or "",
        path=body.path or "",
        method=body.method or "",
        stop_method=body.stop or "",
    )


def _each_terminal(found: s.EachTerminalShape) -> p.EachTerminal:
    blocks = []
    for name, block in found.blocks.items():
        first = register_of(block.reg)
        points = tuple(
            point_of(
                point_name,
                body,
                register=p.Register(table=first.table, address=first.address + body.offset),
            )
            for point_name, body in block.points.items()
        )
        blocks.append(
            p.TerminalBlock(name=name, register=first, stride_size=block.stride, points=points)
        )
    return p.EachTerminal(count=found.count, blocks=tuple(blocks))


def _command(c: s.CommandShape) -> p.CommandBlock:
    return p.CommandBlock(
        staged=c.staged,
        sequence=c.sequence,
        code=c.code,
        argument=c.argument,
        crc=p.CommandCrc(algorithm=c.crc.algorithm, over=c.crc.over, point=c.crc.point),
        instruction_id=c.instruction_id,
        echo=p.CommandEcho(
            sequence=c.echo.sequence, code=c.echo.code, instruction_id=c.echo.instruction_id
        ),
        ttl=c.ttl,
        lease=c.lease,
        heartbeat=p.Heartbeat(
            point=c.heartbeat.point, echo=c.heartbeat.echo, period_ms=c.heartbeat.period
        ),
        watchdog=p.Watchdog(
            timeout=c.watchdog.timeout,
            failsafe=c.watchdog.failsafe,
            ramp=c.watchdog.ramp,
            remaining=c.watchdog.remaining,
        ),
        select_timeout_ms=c.select_timeout,
    )


def _identify(found: s.IdentifyShape) -> p.Identify:
    checks = []
    for check in found.check:
        point = p.Point(
            name=check.reg,
            type=p.PointType(check.type),
            register=register_of(check.reg),
            count=check.count,
            scale=check.scale,
            unit=check.unit,
        )
        low, high = (amount_of(raw, check.unit) for raw in check.between)
        checks.append(p.IdentifyCheck(point=point, between=(low, high)))
    return p.Identify(
        fc43={str(k): v for k, v in found.fc43.items()},
        sunspec_models=found.sunspec,
        application_uri=found.application_uri,
        node=found.node,
        equals=found.equals,
        checks=tuple(checks),
    )


def _modbus(m: s.ModbusShape) -> p.ModbusSettings:
    return p.ModbusSettings(
        unit=m.unit,
        byte_order=p.Order(m.byte_order),
        word_order=p.Order(m.word_order),
        register_count_max=m.max_registers,
        register_write_count_max=m.max_write_registers,
        gap_size=m.gap,
        pause_ms=m.pause,
        connect_delay_ms=m.connect_delay,
        forbidden=tuple(span_of(text) for text in m.forbidden),
        numbering=p.Numbering(m.numbering),
        not_available=p.NotAvailable(m.not_available),
        transaction_zero_ok="transaction_zero" in m.quirks,
        exception_length_four_ok="exception_length_four" in m.quirks,
    )


def _serial(found: s.SerialShape) -> p.SerialSettings:
    low, _, high = found.units.partition("-")
    return p.SerialSettings(
        speeds_baud=found.baud,
        formats=found.format,
        unit_id_min=int(low),
        unit_id_max=int(high or low),
    )


def _opcua(found: s.ProfileShape) -> p.OpcuaSettings:
    o = found.opcua or s.OpcuaShape()
    return p.OpcuaSettings(
        security=o.security,
        publish_ms=o.publish,
        sampling_ms=o.sampling,
        deadband_ratio=o.deadband / _MILLION,
        good=found.quality.good,
        questionable=found.quality.questionable,
        bad=found.quality.bad,
        stale_after_ms=found.stale_after,
    )


def _vector(found: s.ProfileShape, vector: s.VectorShape) -> p.TestVector:
    body = _body(found, vector.point)
    writes = vector.write is not None
    raw = vector.write if writes else vector.value
    value = value_of(raw, body.unit, type_name=body.type)
    return p.TestVector(point=vector.point, registers=vector.registers, value=value, write=writes)


def _body(found: s.ProfileShape, name: str) -> s.PointBody:
    if name in found.points:
        return found.points[name]
    _, _, rest = name.partition(".")
    each = found.each_terminal
    assert each is not None, "checked: the vector's point exists"
    return next(b.points[rest] for b in each.blocks.values() if rest in b.points)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
