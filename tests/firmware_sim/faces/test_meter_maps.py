"""Each make of meter decoded by what its manual says, with code of the test's own."""

import struct

import pytest

from firmware_sim.faces.meter_maps import MODELS, MeterMap, four_quadrant
from firmware_sim.faces.registers import ModbusRefusalError, Table
from firmware_sim.faces.sunspec_meter import SunSpecMeter
from firmware_sim.plant.meter import Meter
from firmware_sim.plant.ratings import SPECS

H, IN = Table.HOLDING, Table.INPUT


class Line:
    p_w, q_var, v_ac_v, f_hz = -12_345.0, -3_000.0, 400.0, 50.0


def unit(kind, import_wh=12_345_678.0, export_wh=1_234_567.0):
    meter = Meter(
        Line(), serial_id=55_555_555, start_import_wh=import_wh, start_export_wh=export_wh
    )
    return MeterMap(MODELS[kind], meter, ahead_s=lambda: 0.0)


def raw(words):
    return struct.pack(f">{len(words)}H", *words)


def f32(words):
    return struct.unpack(">f", raw(words))[0]


def low_first(words):
    return struct.unpack(">i", raw(words[::-1]))[0]


# kind, table, address, registers, decode, value
POINTS = [
    ("iem3255", H, 0x0BF3, 2, f32, 12.345),
    ("iem3255", H, 0x0BD3, 2, f32, 230.94),
    ("iem3255", H, 0x0C25, 2, f32, 50.0),
    ("iem3255", H, 0x0BFB, 2, f32, 3.0),
    ("iem3255", H, 0x0C83, 4, lambda w: struct.unpack(">q", raw(w))[0], 12_345_678),
    ("iem3255", H, 0x0C87, 4, lambda w: struct.unpack(">q", raw(w))[0], 1_234_567),
    ("iem3255", H, 0x0DBD, 4, lambda w: struct.unpack(">q", raw(w))[0], 4_115_226),
    ("sdm630", IN, 0x0034, 2, f32, 12_345.0),
    ("sdm630", IN, 0x0000, 2, f32, 230.94),
    ("sdm630", IN, 0x003C, 2, f32, 3000.0),
    ("sdm630", IN, 0x0046, 2, f32, 50.0),
    ("sdm630", IN, 0x0048, 2, f32, 12_345.678),
    ("sdm630", IN, 0x004A, 2, f32, 1234.567),
    ("sdm630", IN, 0x015A, 2, f32, 4115.226),
    ("b23", H, 0x5000, 4, lambda w: struct.unpack(">Q", raw(w))[0], 1_234_567),
    ("b23", H, 0x5004, 4, lambda w: struct.unpack(">Q", raw(w))[0], 123_456),
    ("b23", H, 0x5B00, 2, lambda w: struct.unpack(">I", raw(w))[0], 2309),
    ("b23", H, 0x5B14, 2, lambda w: struct.unpack(">i", raw(w))[0], 1_234_500),
    ("b23", H, 0x5B2C, 1, lambda w: w[0], 5000),
    ("b23", H, 0x5B3A, 1, lambda w: w[0], 972),
    ("umg604", H, 19026, 2, f32, 12_345.0),
    ("umg604", H, 19050, 2, f32, 50.0),
    ("umg604", H, 19068, 2, f32, 12_345_678.0),
    ("umg604", H, 19076, 2, f32, 1_234_567.0),
    ("umg604", H, 19026 + 32768, 2, lambda w: struct.unpack("<f", struct.pack("<2H", *w))[0], 12_345.0),
    ("em24", IN, 0x0000, 2, low_first, 2309),
    ("em24", IN, 0x0028, 2, low_first, 123_450),
    ("em24", IN, 0x0042, 2, low_first, 123_456),
    ("em24", IN, 0x005C, 2, low_first, 12_345),
    ("em24", IN, 0x0037, 1, lambda w: w[0], 500),
    ("em24_e1", IN, 0x0034, 2, low_first, 123_456),
    ("em24_e1", IN, 0x004E, 2, low_first, 12_345),
    ("em24_e1", IN, 0x0033, 1, lambda w: w[0], 500),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "table", "address", "count", "decode", "value"),
    POINTS,
    ids=[f"{p[0]}-{p[2]:#06x}" for p in POINTS],
)
def test_point(kind, table, address, count, decode, value):
    assert decode(unit(kind).read(table, address, count)) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "table", "address", "count", "code"),
    [
        ("sdm630", IN, 0, 3, 3),  # only even register counts
        ("sdm630", IN, 0, 82, 3),  # at most 80
        ("sdm630", H, 0, 2, 2),  # measured values are input registers
        ("em24", IN, 0, 12, 3),  # at most eleven
        ("iem3255", IN, 0x0C83, 4, 2),
        ("iem3255", H, 0x2000, 2, 2),
        ("b23", H, 0x5FFF, 2, 2),
        ("umg604", H, 100, 2, 2),
    ],
)
def test_limits_of_the_make(kind, table, address, count, code):
    with pytest.raises(ModbusRefusalError) as refusal:
        unit(kind).read(table, address, count)
    assert refusal.value.exception_code == code


@pytest.mark.parametrize("kind", MODELS)
def test_one_read_of_neighbours_equals_single_reads(kind):
    model = MODELS[kind]
    table = model.tables[0]
    low, high = model.span_address[-1]
    size = min(10, model.read_size_max, high - low + 1)
    step = 2 if model.even_only else 1
    m = unit(kind)
    together = m.read(table, low, size)
    single = [w for a in range(low, low + size, step) for w in m.read(table, a, step)]
    assert list(together) == single


@pytest.mark.parametrize(("total_wh", "spacing_wh"), [(1e6, 0.06), (1e8, 7.8), (1e9, 62.5)])
def test_float_registers_age(total_wh, spacing_wh):
    def register(wh):
        return f32(unit("sdm630", import_wh=wh).read(IN, 0x48, 2)) * 1000

    assert register(total_wh + 0.4 * spacing_wh) == pytest.approx(total_wh, abs=1e-6 * total_wh)
    assert register(total_wh + 1.1 * spacing_wh) - register(total_wh) == pytest.approx(
        spacing_wh, rel=0.03
    )


def test_em24_rolls_over_at_its_width():
    assert low_first(unit("em24", import_wh=2**32 * 100.0 + 500.0).read(IN, 0x42, 2)) == 5


def test_quadrants():
    assert four_quadrant(0.9, 100.0) == 0.9
    assert four_quadrant(0.9, -100.0) == pytest.approx(1.1)
    assert four_quadrant(-0.9, -100.0) == pytest.approx(-1.1)


def sunspec(model_id, import_wh=12_345_678.0):
    meter = Meter(Line(), serial_id=9, start_import_wh=import_wh, start_export_wh=1_234_567.0)
    return SunSpecMeter(model_id, meter, ahead_s=lambda: 0.0)


def test_sunspec_203_offsets_from_the_model_id():
    m = sunspec(203)
    at = 40070
    assert m.read(H, at, 2) == [203, 105]
    assert m.read(H, at + 18, 1) == [1234]  # 10 W steps
    assert m.read(H, at + 22, 1) == [1]
    assert struct.unpack(">I", raw(m.read(H, at + 38, 2)))[0] == 1_234_567
    assert struct.unpack(">I", raw(m.read(H, at + 46, 2)))[0] == 12_345_678
    assert m.read(H, at + 54, 1) == [0]
    assert m.read(H, at + 105, 2) == [0, 0]
    assert m.read(H, at + 107, 2) == [0xFFFF, 0]


def test_sunspec_203_energy_wraps_at_32_bits():
    m = sunspec(203, import_wh=2**32 + 7.0)
    assert struct.unpack(">I", raw(m.read(H, 40070 + 46, 2)))[0] == 7


def test_sunspec_213_offsets_from_the_model_id():
    m = sunspec(213)
    at = 40070
    assert m.read(H, at, 2) == [213, 124]
    assert f32(m.read(H, at + 28, 2)) == pytest.approx(12_345)
    assert f32(m.read(H, at + 60, 2)) == pytest.approx(1_234_567)
    assert f32(m.read(H, at + 68, 2)) == pytest.approx(12_345_678)
    assert m.read(H, at + 126, 2) == [0xFFFF, 0]


class Strong(Line):
    p_w, q_var, v_ac_v = -1_500_000.0, -300_000.0, 10_000.0


def sunspec_value(m, offset, scale_offset):
    (value,) = struct.unpack(">h", raw(m.read(H, 40070 + offset, 1)))
    (exponent,) = struct.unpack(">h", raw(m.read(H, 40070 + scale_offset, 1)))
    return value * 10.0**exponent


def test_sunspec_203_shows_the_powers_and_voltages_of_a_strong_terminal():
    rated = SPECS["mv4x3000"].terminals[0]
    meter = Meter(Strong(), serial_id=9)
    m = SunSpecMeter(203, meter, ahead_s=lambda: 0.0, rated=rated)
    assert sunspec_value(m, 18, 22) == pytest.approx(1_500_000, abs=1000)
    assert sunspec_value(m, 23, 27) == pytest.approx(1_529_706, abs=1000)
    assert sunspec_value(m, 28, 32) == pytest.approx(300_000, abs=1000)
    assert sunspec_value(m, 11, 15) == pytest.approx(10_000, abs=10)
    assert sunspec_value(m, 2, 6) == pytest.approx(88.3, abs=0.1)


def test_sunspec_203_never_shows_another_value_than_the_one_that_does_not_fit():
    m = SunSpecMeter(203, Meter(Strong(), serial_id=9), ahead_s=lambda: 0.0)
    assert m.read(H, 40070 + 18, 1) == [0x8000]
    assert m.read(H, 40070 + 11, 1) == [0x8000]
