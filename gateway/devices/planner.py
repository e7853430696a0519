"""Puts the points of a device into the fewest read requests.

Points of one table are sorted and joined while the unused registers between two of them do not
exceed the profile's gap and the block its maximum; a block never touches a forbidden span, and
points that must be of one moment are never split over two requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from gateway.devices.codec import BlockDecoder, Decoded, PointCodec
from gateway.devices.modbus import frame
from gateway.devices.profile import ModbusSettings, Point, Table
from gateway.model.telemetry import Quality

BIT_TABLES = (Table.COIL, Table.DISCRETE)


class PlanError(ValueError):
    """Points that cannot be read as the profile asks."""


class Block:
    """One read request and how to decode its answer."""

    __slots__ = (
        "_bits",
        "_decoder",
        "address",
        "count",
        "names",
        "points",
        "request",
        "scaled",
        "table",
    )

    def __init__(
        self, *, unit: int, table: Table, address: int, count: int, points: Sequence[PointCodec]
    ) -> None:
        self.table = table
        self.address = address
        self.count = count
        self.points = tuple(points)
        self.scaled = tuple(i for i, c in enumerate(points) if c.point.scale_point is not None)
        self.names = tuple(codec.point.name for codec in points)
        self.request = frame.read(unit, table, address, count)
        offsets = [_start(codec.point) - address for codec in points]
        self._bits = tuple(offsets) if table in BIT_TABLES else None
        self._decoder = (
            None
            if self._bits is not None
            else BlockDecoder(
                [(codec, 2 * offset) for codec, offset in zip(points, offsets, strict=True)],
                2 * count,
            )
        )

    def decode(self, data: bytes) -> list[Decoded]:
        """The values of the block's points, in the order of ``names``."""
        if self._bits is not None:
            return [(data[i >> 3] >> (i & 7) & 1, Quality.GOOD) for i in self._bits]
        assert self._decoder is not None
        return self._decoder.decode(data)

    def raws(self, data: bytes) -> tuple[int | float | bytes, ...]:
        """The raw numbers of the block's points, in the order of ``names``."""
        if self._bits is not None:
            return tuple(data[i >> 3] >> (i & 7) & 1 for i in self._bits)
        assert self._decoder is not None
        return self._decoder.raws(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Points that stay together, and the registers they span."""

    start_address: int
    end_address: int
    points: tuple[PointCodec, ...]


def plan(
    codecs: Iterable[PointCodec],
    settings: ModbusSettings,
    *,
    unit: int,
    together: Collection[Collection[str]] = (),
) -> tuple[Block, ...]:
    """Return the requests that read all the points, in the order of their addresses.

    Each collection of names in ``together`` is read in one request.
    """
    by_table: dict[Table, list[PointCodec]] = {}
    for codec in codecs:
        assert codec.point.register is not None, f"{codec.point.name} has no register"
        by_table.setdefault(codec.point.register.table, []).append(codec)
    blocks: list[Block] = []
    for table, members in by_table.items():
        runs = _runs(members, [set(names) for names in together])
        blocks += _blocks(table, runs, settings, unit)
    return tuple(blocks)


def _runs(codecs: Sequence[PointCodec], together: Sequence[set[str]]) -> list[_Run]:
    groups: dict[int, list[PointCodec]] = {}
    runs: list[_Run] = []
    for codec in codecs:
        for number, names in enumerate(together):
            if codec.point.name in names:
                groups.setdefault(number, []).append(codec)
                break
        else:
            runs.append(_run([codec]))
    runs += [_run(members) for members in groups.values()]
    return sorted(runs, key=lambda run: (run.start_address, run.end_address))


def _run(codecs: Sequence[PointCodec]) -> _Run:
    ordered = sorted(codecs, key=lambda codec: _start(codec.point))
    return _Run(
        start_address=_start(ordered[0].point),
        end_address=max(_end(codec.point) for codec in ordered),
        points=tuple(ordered),
    )


def _blocks(table: Table, runs: Sequence[_Run], settings: ModbusSettings, unit: int) -> list[Block]:
    bits = table in BIT_TABLES
    count_max = frame.READ_BIT_COUNT_MAX if bits else settings.register_count_max
    blocks: list[Block] = []
    current: list[PointCodec] = []
    start = end = 0
    for run in runs:
        if run.end_address - run.start_address > count_max:
            names = ", ".join(codec.point.name for codec in run.points)
            raise PlanError(f"{names} span more than {count_max} registers")
        joined = max(end, run.end_address)
        fits = (
            current
            and run.start_address - end <= settings.gap_size
            and joined - start <= count_max
            and not _forbidden(table, start, joined, settings)
        )
        if current and not fits:
            blocks.append(
                Block(unit=unit, table=table, address=start, count=end - start, points=current)
            )
            current = []
        if not current:
            start, end = run.start_address, run.end_address
        if _forbidden(table, run.start_address, run.end_address, settings):
            raise PlanError(f"{run.points[0].point.name} lies in a forbidden span")
        current.extend(run.points)
        end = max(end, run.end_address)
    if current:
        blocks.append(
            Block(unit=unit, table=table, address=start, count=end - start, points=current)
        )
    return blocks


def _forbidden(table: Table, start: int, end: int, settings: ModbusSettings) -> bool:
    return any(
        span.register.table is table
        and span.register.address < end
        and start < span.register.address + span.count
        for span in settings.forbidden
    )


def _start(point: Point) -> int:
    assert point.register is not None
    return point.register.address


def _end(point: Point) -> int:
    return _start(point) + max(1, point.register_count)
