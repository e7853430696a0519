import math
import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin

from gateway.devices.codec import BlockDecoder, EncodeError, PointCodec, whole
from gateway.devices.profile import (
    ModbusSettings,
    NotAvailable,
    Order,
    Point,
    PointType,
    Register,
    Table,
)
from gateway.model.telemetry import Quality

NUMBERS = [t for t in PointType if t not in (PointType.STRING, PointType.BOOL)]
FLOATS = (PointType.FLOAT32, PointType.FLOAT64)
AT = Register(table=Table.HOLDING, address=0)
PLAIN = ModbusSettings()


def point(type_, **fields):
    return Point(name="x", register=AT, type=type_, **fields)


def raw_values(type_):
    width = 16 * point(type_).register_count
    if type_ in FLOATS:
        return st.floats(width=width, allow_nan=False, allow_infinity=False)
    if type_ in (PointType.INT16, PointType.INT32, PointType.INT64, PointType.SUNSSF):
        return st.integers(-(1 << width - 1), (1 << width - 1) - 1)
    return st.integers(0, (1 << width) - 1)


@pytest.mark.parametrize("type_", NUMBERS)
@pytest.mark.parametrize("word_order", Order)
@pytest.mark.parametrize("byte_order", Order)
@given(data=st.data())
def test_what_is_written_is_what_is_read(type_, word_order, byte_order, data):
    scale = data.draw(st.sampled_from(["1", "10", "100", "0.1", "0.01", "0.001", "0.5"]))
    codec = PointCodec(
        point(type_, scale=Decimal(scale), word_order=word_order, byte_order=byte_order), PLAIN
    )
    raw = data.draw(raw_values(type_))
    value, quality = codec.decode_raw(raw)
    assert quality is Quality.GOOD
    if isinstance(raw, int):
        assert Fraction(value) == pytest.approx(Fraction(raw) * Fraction(scale), rel=1e-15)
        exact = Decimal(raw) * Decimal(scale)
        words = codec.encode(exact)
        assert codec.decode(words) == (value, Quality.GOOD)
        assert len(words) == codec.size_bytes // 2
    elif scale == "1":
        assert codec.decode(codec.encode(raw)) == (raw, Quality.GOOD)


@pytest.mark.parametrize("type_", [PointType.UINT16, PointType.INT16])
def test_every_encoding_of_a_register_round_trips(type_):
    codec = PointCodec(point(type_), PLAIN)
    for word in range(65536):
        value, quality = codec.decode([word])
        assert quality is Quality.GOOD
        assert codec.encode(value) == (word,)


@pytest.mark.parametrize("type_", NUMBERS)
def test_the_edges_of_each_type_round_trip_and_one_more_does_not_fit(type_):
    if type_ in FLOATS:
        return
    codec = PointCodec(point(type_), PLAIN)
    width = 8 * codec.size_bytes
    signed = codec.struct_code.islower()
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    for value in (low, low + 1, 0, 1, high - 1, high):
        assert codec.decode(codec.encode(value)) == (value, Quality.GOOD)
    for value in (low - 1, high + 1):
        with pytest.raises(EncodeError):
            codec.encode(value)


DATATYPES = {
    PointType.UINT16: ModbusClientMixin.DATATYPE.UINT16,
    PointType.INT16: ModbusClientMixin.DATATYPE.INT16,
    PointType.UINT32: ModbusClientMixin.DATATYPE.UINT32,
    PointType.INT32: ModbusClientMixin.DATATYPE.INT32,
    PointType.UINT64: ModbusClientMixin.DATATYPE.UINT64,
    PointType.INT64: ModbusClientMixin.DATATYPE.INT64,
    PointType.FLOAT32: ModbusClientMixin.DATATYPE.FLOAT32,
    PointType.FLOAT64: ModbusClientMixin.DATATYPE.FLOAT64,
}


@pytest.mark.parametrize("type_", DATATYPES)
@pytest.mark.parametrize("word_order", Order)
@given(data=st.data())
def test_another_stack_reads_the_same_numbers(type_, word_order, data):
    codec = PointCodec(point(type_, word_order=word_order), PLAIN)
    raw = data.draw(raw_values(type_))
    words = codec.encode(raw)
    theirs = ModbusClientMixin.convert_from_registers(
        list(words), DATATYPES[type_], word_order=str(word_order)
    )
    assert theirs == raw


@pytest.mark.parametrize(
    ("word_order", "byte_order", "words"),
    [
        (Order.BIG, Order.BIG, (0x4366, 0x3333)),  # ABCD
        (Order.LITTLE, Order.BIG, (0x3333, 0x4366)),  # CDAB
        (Order.BIG, Order.LITTLE, (0x6643, 0x3333)),  # BADC
        (Order.LITTLE, Order.LITTLE, (0x3333, 0x6643)),  # DCBA
    ],
)
def test_the_four_orders_of_a_float(word_order, byte_order, words):
    codec = PointCodec(
        point(PointType.FLOAT32, word_order=word_order, byte_order=byte_order, unit="V"), PLAIN
    )
    assert codec.decode(words)[0] == pytest.approx(230.2, abs=1e-4)
    assert codec.encode(codec.decode(words)[0]) == words


@pytest.mark.parametrize("pattern", [0x7FC00000, 0xFFC00000, 0x7F800001, 0x7F800000, 0xFF800000])
def test_no_number_comes_out_of_nan_or_infinity(pattern):
    codec = PointCodec(point(PointType.FLOAT32), PLAIN)
    assert codec.decode([pattern >> 16, pattern & 0xFFFF]) == (None, Quality.BAD)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("type_", NUMBERS)
def test_nan_and_infinity_are_never_written(type_, value):
    with pytest.raises(EncodeError):
        PointCodec(point(type_), PLAIN).encode(value)


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (PointType.INT16, [0x8000]),
        (PointType.UINT16, [0xFFFF]),
        (PointType.ENUM16, [0xFFFF]),
        (PointType.BITS16, [0xFFFF]),
        (PointType.ACC16, [0]),
        (PointType.SUNSSF, [0x8000]),
        (PointType.INT32, [0x8000, 0]),
        (PointType.UINT32, [0xFFFF, 0xFFFF]),
        (PointType.ENUM32, [0xFFFF, 0xFFFF]),
        (PointType.BITS32, [0xFFFF, 0xFFFF]),
        (PointType.ACC32, [0, 0]),
        (PointType.FLOAT32, [0x7FC0, 0]),
        (PointType.INT64, [0x8000, 0, 0, 0]),
        (PointType.UINT64, [0xFFFF] * 4),
        (PointType.ACC64, [0] * 4),
    ],
)
def test_sunspec_not_implemented_is_quality_and_no_number(type_, words):
    codec = PointCodec(point(type_), ModbusSettings(not_available=NotAvailable.SUNSPEC))
    assert codec.decode(words) == (None, Quality.BAD)
    with pytest.raises(EncodeError):
        codec.encode(
            struct.unpack(">" + codec.struct_code, struct.pack(f">{len(words)}H", *words))[0]
        )


def test_all_ones_and_patterns_of_the_point():
    ones = ModbusSettings(not_available=NotAvailable.ALL_ONES)
    assert PointCodec(point(PointType.UINT32), ones).decode([0xFFFF, 0xFFFF])[0] is None
    assert PointCodec(point(PointType.INT16), ones).decode([0x7FFF])[0] is None
    assert PointCodec(point(PointType.INT16), ones).decode([0x8000])[0] == -32768
    own = PointCodec(point(PointType.INT16, not_available=(0x8001,)), ones)
    assert own.decode([0x8001])[0] is None
    assert own.decode([0x7FFF])[0] == 32767


def test_strings_labels_bits_and_units():
    text = PointCodec(point(PointType.STRING, length=4), PLAIN)
    assert text.decode([0x4142, 0x4300, 0, 0]) == ("ABC", Quality.GOOD)
    assert text.encode("ABC") == (0x4142, 0x4300, 0, 0)
    assert text.decode([0, 0, 0, 0]) == (None, Quality.BAD)
    assert text.decode([0xFFFE, 0, 0, 0]) == (None, Quality.BAD)
    for bad in ("123456789", ""):
        with pytest.raises(EncodeError):
            text.encode(bad)
    mode = PointCodec(point(PointType.ENUM16, label_by_code={0: "stop", 1: "run"}), PLAIN)
    assert mode.encode("run") == (1,)
    assert mode.label(1) == "run"
    assert mode.label(9) == "9"
    with pytest.raises(EncodeError):
        mode.encode("fly")
    bit = PointCodec(point(PointType.UINT16, bit_index=3), PLAIN)
    assert [bit.decode([w])[0] for w in (0b1000, 0b0111)] == [1, 0]
    with pytest.raises(EncodeError):
        bit.encode(1)
    kw = PointCodec(point(PointType.INT16, scale=Decimal("0.1"), unit="kW"), PLAIN)
    assert kw.decode([0xFA24]) == (-150_000, Quality.GOOD)
    assert kw.encode(-150_000) == (0xFA24,)
    with pytest.raises(EncodeError):
        kw.encode(-150_050)  # finer than 100 W


def test_scale_factors_of_another_point():
    codec = PointCodec(point(PointType.INT16, unit="W", scale_point="sf"), PLAIN)
    assert codec.decode([1234], exponent=2)[0] == 123_400
    assert codec.decode([1234], exponent=-1)[0] == 123.4
    assert codec.decode([1230], exponent=-1)[0] == 123
    assert codec.encode(123_400, exponent=2) == (1234,)


@given(st.data())
def test_a_block_decodes_like_its_points_one_by_one(data):
    codecs, fields, words, offset = [], [], [], 0
    for n in range(data.draw(st.integers(1, 12))):
        gap = data.draw(st.integers(0, 3))
        words += [0xBEEF] * gap
        offset += 2 * gap
        type_ = data.draw(st.sampled_from(NUMBERS))
        codec = PointCodec(
            Point(
                name=f"p{n}",
                register=AT,
                type=type_,
                word_order=data.draw(st.sampled_from(Order)),
                byte_order=data.draw(st.sampled_from(Order)),
            ),
            PLAIN,
        )
        part = data.draw(
            st.lists(
                st.integers(0, 65535),
                min_size=codec.size_bytes // 2,
                max_size=codec.size_bytes // 2,
            )
        )
        codecs.append((codec, part))
        fields.append((codec, offset))
        words += part
        offset += codec.size_bytes
    shuffled = data.draw(st.permutations(range(len(fields))))
    decoder = BlockDecoder([fields[i] for i in shuffled], 2 * len(words))
    got = decoder.decode(struct.pack(f">{len(words)}H", *words))
    assert got == [codecs[i][0].decode(codecs[i][1]) for i in shuffled]


def test_points_that_share_a_register_are_decoded_each():
    bits = [PointCodec(point(PointType.UINT16, bit_index=k), PLAIN) for k in range(16)]
    plain = PointCodec(point(PointType.UINT16), PLAIN)
    decoder = BlockDecoder([(c, 0) for c in [*bits, plain]], 2)
    assert [v for v, _ in decoder.decode(b"\x80\x05")] == [1, 0, 1, *[0] * 12, 1, 0x8005]


def test_whole_rounds_half_away_from_zero():
    assert [whole(v) for v in (0.5, 1.5, -0.5, -1.5, 0.49, 7)] == [1, 2, -1, -2, 0, 7]
    assert whole(400.05, per_unit=10) == 4001
