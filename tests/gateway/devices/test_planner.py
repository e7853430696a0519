import itertools
import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.devices.codec import PointCodec
from gateway.devices.planner import PlanError, plan
from gateway.devices.profile import ModbusSettings, Point, PointType, Register, Span, Table


def codec(name, address, *, table=Table.HOLDING, type_=PointType.UINT16):
    return PointCodec(
        Point(
            name=name, register=Register(table=table, address=address), type=type_, scale=Decimal(1)
        ),
        ModbusSettings(),
    )


def spans(blocks):
    return [(b.table, b.address, b.count) for b in blocks]


def test_contiguous_points_fill_whole_requests():
    codecs = [codec(f"p{n}", n) for n in range(1000)]
    blocks = plan(codecs, ModbusSettings(gap_size=0), unit=1)
    assert [b.count for b in blocks] == [125] * 8


def test_stride_three_is_bridged_by_the_gap():
    codecs = [codec(f"p{n}", 3 * n) for n in range(1000)]
    assert len(plan(codecs, ModbusSettings(gap_size=0), unit=1)) == 1000
    assert len(plan(codecs, ModbusSettings(gap_size=8), unit=1)) == 24
    assert len(plan(codecs, ModbusSettings(gap_size=8, register_count_max=80), unit=1)) == 38


def test_tables_forbidden_spans_and_together():
    codecs = [codec("a", 0), codec("b", 10), codec("c", 12), codec("d", 0, table=Table.INPUT)]
    assert spans(plan(codecs, ModbusSettings(gap_size=20), unit=1)) == [
        (Table.HOLDING, 0, 13),
        (Table.INPUT, 0, 1),
    ]
    hole = (Span(register=Register(table=Table.HOLDING, address=5), count=2),)
    assert spans(plan(codecs, ModbusSettings(gap_size=20, forbidden=hole), unit=1))[:2] == [
        (Table.HOLDING, 0, 1),
        (Table.HOLDING, 10, 3),
    ]
    on_it = (Span(register=Register(table=Table.HOLDING, address=10), count=1),)
    with pytest.raises(PlanError):
        plan(codecs, ModbusSettings(forbidden=on_it), unit=1)
    both = plan(codecs[:3], ModbusSettings(gap_size=0), unit=1, together=[("a", "c")])
    assert spans(both) == [(Table.HOLDING, 0, 13)]
    with pytest.raises(PlanError):
        plan(codecs, ModbusSettings(register_count_max=5), unit=1, together=[("a", "c")])


def test_a_wide_value_is_never_cut():
    codecs = [codec(f"p{n}", 4 * n, type_=PointType.UINT64) for n in range(100)]
    for block in plan(codecs, ModbusSettings(register_count_max=10), unit=1):
        assert block.count % 4 == 0


def test_bits_are_read_as_bits():
    codecs = [codec(f"b{n}", 3 + 2 * n, table=Table.COIL, type_=PointType.BOOL) for n in range(5)]
    (block,) = plan(codecs, ModbusSettings(), unit=1)
    assert (block.address, block.count) == (3, 9)
    assert [v for v, _ in block.decode(b"\x05\x01")] == [1, 1, 0, 0, 1]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400),
            st.sampled_from([PointType.UINT16, PointType.INT32, PointType.UINT64]),
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 30),
    st.integers(4, 125),
)
def test_every_point_is_read_once_and_right(places, gap, most):
    registers = [(7 * n + 3) & 0xFFFF for n in range(500)]
    codecs = [codec(f"p{n}", a, type_=t) for n, (a, t) in enumerate(places)]
    blocks = plan(codecs, ModbusSettings(gap_size=gap, register_count_max=most), unit=1)
    found = {}
    for block in blocks:
        assert block.count <= most
        words = registers[block.address : block.address + block.count]
        got = block.decode(struct.pack(f">{block.count}H", *words))
        for name, value in zip(block.names, got, strict=True):
            assert name not in found
            found[name] = value
    for c in codecs:
        start = c.point.register.address
        assert found[c.point.name] == c.decode(registers[start : start + c.size_bytes // 2])


@given(st.sets(st.integers(0, 60), min_size=1, max_size=9), st.integers(0, 6), st.integers(1, 12))
def test_no_plan_takes_fewer_requests(addresses, gap, most):
    ordered = sorted(addresses)
    # The least number of requests by trying every way to cut, the slow way.
    best = [0] + [99] * len(ordered)
    for end in range(1, len(ordered) + 1):
        for start in range(end):
            part = ordered[start:end]
            joined = all(b - a - 1 <= gap for a, b in itertools.pairwise(part))
            if joined and part[-1] - part[0] < most:
                best[end] = min(best[end], best[start] + 1)
    codecs = [codec(f"p{a}", a) for a in ordered]
    settings = ModbusSettings(gap_size=gap, register_count_max=most)
    assert len(plan(codecs, settings, unit=1)) == best[-1]
