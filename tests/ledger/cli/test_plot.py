import xml.etree.ElementTree as ET

import pytest

from ledger.cli.plot import Line, bars, lines, number, round_step


def shapes(svg, name):
    return ET.fromstring(svg).findall(f"{{http://www.w3.org/2000/svg}}{name}")


def test_a_chart_is_well_formed_and_marks_the_point():
    curve = Line(name="<T1> & co", points=[(-1, -5), (0, 0), (1, 4)], mark=(1, 4))
    svg = lines('a "title"', [curve], x_name="x", y_name="y")
    (line,) = shapes(svg, "polyline")
    (ring,) = shapes(svg, "circle")
    assert len(line.get("points").split()) == 3
    assert line.get("points").split()[-1] == f"{ring.get('cx')},{ring.get('cy')}"


@pytest.mark.parametrize("values", [[], [("A", 0)], [("A", -3), ("B", 7e9)]])
def test_bars_of_anything_are_drawn(values):
    svg = bars("b", values, y_name="y")
    assert len(shapes(svg, "rect")) == 1 + 2 * len(values)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1500, "1.5k"), (-2e6, "-2M"), (3e9, "3G")])
def test_numbers_on_an_axis_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("size", "step"), [(0.3, 0.5), (1, 1), (13, 20), (49, 50), (61_000, 100_000)])  # fmt: skip
def test_steps_are_round(size, step):
    assert round_step(size) == pytest.approx(step)
