import xml.etree.ElementTree as ET

from gateway.commissioning.sat.plots import caption, curve, polygon

MEASURED = [(t / 10, 0.0 if t < 12 else min(25_000.0, (t - 12) * 5_000.0)) for t in range(40)]
WANTED = [(0.0, 0.0), (1.0, 25_000.0), (4.0, 25_000.0)]


def test_a_curve_is_whole_numbers_and_the_same_bytes():
    svg = curve(MEASURED, WANTED, title="T2 step")
    assert svg == curve(list(MEASURED), list(WANTED), title="T2 step")
    root = ET.fromstring(svg)
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2
    places = [tuple(map(int, p.split(","))) for line in lines for p in line.get("points").split()]
    assert all(0 <= x <= 560 and 0 <= y <= 180 for x, y in places)
    assert root[0].text.startswith("T2 step: ")


def test_a_long_curve_is_thinned_and_too_short_a_one_left_out():
    long = [(t / 100, float(t % 7)) for t in range(10_000)]
    assert curve(long, WANTED, title="x").count(",") < 1000
    assert curve(MEASURED[:1], WANTED, title="x") == ""


def test_a_polygon_shows_corners_targets_and_the_rating():
    corners = [(100.0, 0.0), (0.0, 90.0), (-100.0, 0.0), (0.0, -90.0)]
    svg = polygon(corners, corners, radius=100.0, title="capability of T2")
    root = ET.fromstring(svg)
    assert sum(e.tag.endswith("circle") for e in root.iter()) == 5
    assert polygon(corners[:2], corners, radius=100.0, title="x") == ""


def test_what_a_plot_shows_stands_below_it():
    said = caption(curve(MEASURED, WANTED, title="T2 step"))
    assert said.startswith("T2 step: measured, and set (dashed); ")
    assert said.endswith("kW")
    assert caption("<svg></svg>") == ""
