import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hmi import svg

NS = {"s": "http://www.w3.org/2000/svg"}
START = 1_767_319_200_000_000


def drawn(series, **more):
    text = svg.time_plot(
        series, name="p", title="Power <T1>", description="In words & all", unit="kW", **more
    )
    return text, ET.fromstring(text)


def test_plot_is_wellformed_and_named_for_those_who_do_not_see_it():
    points = [(START + k * 1_000_000, k * 0.5) for k in range(60)]
    text, root = drawn([svg.Series(label="measured", points=points)])
    assert root.get("role") == "img"
    assert root.find("s:title", NS).text == "Power <T1>"
    assert root.find("s:desc", NS).text == "In words & all"
    assert root.get("aria-labelledby") == "p-t p-d"
    assert "style=" not in text
    assert "fill=" not in text
    assert "#" not in text


def test_axis_has_its_unit_and_utc_instants():
    points = [(START + k * 60_000_000, float(k)) for k in range(31)]
    _, root = drawn([svg.Series(label="measured", points=points)])
    words = [t.text for t in root.findall("s:text", NS)]
    assert "kW" in words
    assert "UTC" in words
    assert {"02:00", "02:10", "02:20"} <= set(words)


def test_set_and_measured_differ_by_look_and_carry_their_labels():
    points = [(START, 0.0), (START + 10_000_000, 5.0)]
    _, root = drawn(
        [
            svg.Series(label="measured", points=points),
            svg.Series(label="set", points=points, look="set", step=True),
        ]
    )
    traces = [p.get("class") for p in root.findall("s:path", NS)]
    assert traces == ["trace measured", "trace set"]
    assert {"measured", "set"} <= {t.text for t in root.findall("s:text", NS)}


def test_step_and_line_paths():
    x = y = svg.scale(0, 10, 0, 10)
    points = [(0, 1.0), (4, 3.0), (6, None), (8, 2.0)]
    assert svg.path(points, x, y) == "M0 1L4 3M8 2"
    assert svg.path(points, x, y, step=True) == "M0 1H4V3H6M8 2"


def test_nothing_to_draw_says_so():
    _, root = drawn([svg.Series(label="measured", points=[(START, None)])])
    assert root.find("s:path", NS) is None
    assert "In words & all" in [t.text for t in root.findall("s:text", NS)]


def test_bars_show_pairs_and_mark_the_abnormal():
    rows = [
        svg.Bar(label="T-1", contracted_kwh=20.0, delivered_kwh=20.0, mark="ok"),
        svg.Bar(label="T-2", contracted_kwh=20.0, delivered_kwh=5.0, mark="short", abnormal=True),
    ]
    text = svg.bars(
        rows, name="e", title="Energy", description="d", words=("contracted", "delivered")
    )
    boxes = [
        (r.get("class"), float(r.get("width"))) for r in ET.fromstring(text).findall("s:rect", NS)
    ]
    whole, full, _, part = (w for c, w in boxes[2:])
    assert full == pytest.approx(whole)
    assert part == pytest.approx(whole / 4)
    assert [c for c, _ in boxes[2:]] == [
        "contracted",
        "delivered",
        "contracted",
        "delivered abnormal",
    ]


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.none() | st.floats(-1e6, 1e6)), min_size=1, max_size=400
    ),
    st.integers(1, 20),
)
def test_thinning_keeps_ends_and_extremes(points, columns):
    points = sorted(points, key=lambda p: p[0])
    kept = svg.thin(points, columns)
    values = [v for _, v in points if v is not None]
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert [p for p in kept if p[1] is None] == [p for p in points if p[1] is None]
    assert {v for _, v in kept if v is not None} <= set(values)
    if values:
        assert max(v for _, v in kept if v is not None) == max(values)
        assert min(v for _, v in kept if v is not None) == min(values)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_ticks_are_round_few_and_inside(low, span):
    ticks = svg.nice_ticks(low, low + span)
    step = svg.nice_step(low, low + span, 5)
    assert len(ticks) <= 6
    assert all(low - 1e-6 * step <= t <= low + span + 1e-6 * step for t in ticks)


@given(st.integers(START, START + 10**13), st.integers(1_000_000, 10**14))
def test_time_ticks_are_few_and_inside(start, span):
    ticks, _ = svg.time_ticks(start, start + span)
    assert 0 <= len(ticks) <= 9
    assert all(start <= t <= start + span for t in ticks)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_the_axis_holds_every_value(values):
    low, high = svg.value_range(values)
    assert low < min(values) <= max(values) < high
