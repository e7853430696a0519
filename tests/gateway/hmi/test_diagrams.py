import dataclasses
import xml.etree.ElementTree as ET

import pytest

from gateway.hmi.diagrams import capability, one_line
from gateway.hmi.language import Words

NS = {"s": "http://www.w3.org/2000/svg"}


def words_of(root):
    return [t.text for t in root.findall("s:text", NS)]


def with_terminal(view, place, **changed):
    terminals = list(view.terminals)
    terminals[place] = dataclasses.replace(terminals[place], **changed)
    return dataclasses.replace(view, terminals=tuple(terminals))


def test_every_terminal_with_its_figures(view):
    said = words_of(ET.fromstring(one_line(view, Words("en"))))
    for text in ("−150.2 kW", "◇ −150.0 kW", "20.1 kvar", "400.1 V", "T1 · region-a · balancing"):
        assert text in said
    assert "DC 801.2 V" in said
    assert "losses 5.3 kW" in said
    assert "▽ limited by: rating" in said


def test_description_says_in_words_which_way_power_goes(view):
    desc = ET.fromstring(one_line(view, Words("en"))).find("s:desc", NS).text
    assert "T2 absorbs 150.2 kilowatts, RUN" in desc
    assert "T3 injects 150.0 kilowatts, RUN" in desc


@pytest.mark.parametrize(("place", "p_w", "right"), [(1, -9_000, True), (1, 9_000, False), (3, 9_000, True), (3, -9_000, False)])  # fmt: skip
def test_arrow_points_from_the_absorbing_to_the_injecting_side(view, place, p_w, right):
    for other in range(4):
        view = with_terminal(view, other, p_w=p_w if other == place else 0)
    (arrow,) = ET.fromstring(one_line(view, Words("en"))).findall("s:polygon", NS)
    corners = [tuple(map(float, c.split(","))) for c in arrow.get("points").split()]
    tip, tail = corners[3][0], corners[0][0]
    assert (tip > tail) is right


def test_unknown_power_is_a_dash_and_no_arrow(view):
    for place in range(4):
        view = with_terminal(view, place, p_w=None, q_var=None, set_p_w=None, v_dv=None)
    root = ET.fromstring(one_line(view, Words("en")))
    assert root.findall("s:polygon", NS) == []
    assert [w.removeprefix("◇ ") for w in words_of(root)].count("–") == 15
    assert "power not known" in root.find("s:desc", NS).text


def test_fault_has_a_mark_and_its_words(view):
    root = ET.fromstring(one_line(with_terminal(view, 0, faults=("over_current",)), Words("en")))
    assert [r.get("class") for r in root.findall("s:rect", NS)].count("alarm-1") == 1
    assert "over current" in words_of(root)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4])
def test_any_number_of_terminals_is_drawn(view, count):
    view = dataclasses.replace(view, terminals=view.terminals[:count])
    root = ET.fromstring(one_line(view, Words("zh")))
    boxes = [r for r in root.findall("s:rect", NS) if r.get("class") == "converter"]
    assert len(boxes) == count


def test_operating_point_lies_where_p_and_q_say(view):
    terminal = dataclasses.replace(view.terminals[1], p_w=125_000, q_var=-125_000, set_p_w=100_000)
    root = ET.fromstring(capability(terminal, Words("en")))
    outer, now = root.findall("s:circle", NS)
    middle, reach = float(outer.get("cx")), float(outer.get("r"))
    assert float(now.get("cx")) == pytest.approx(middle + reach / 2)
    assert float(now.get("cy")) == pytest.approx(middle + reach / 2)
    assert "177 kVA / 250 kVA (70 %)" in words_of(root)


def test_capability_without_values_has_no_point(view):
    bare = dataclasses.replace(view.terminals[1], p_w=None, q_var=None, set_p_w=None)
    root = ET.fromstring(capability(bare, Words("de")))
    assert len(root.findall("s:circle", NS)) == 1
    assert [p.get("class") for p in root.findall("s:path", NS)] == ["region"]


def test_measured_polygon_is_drawn(view):
    swept = dataclasses.replace(view.terminals[1], polygon=((1000, 0), (0, 1000), (-1000, 0)))
    root = ET.fromstring(capability(swept, Words("en")))
    assert len(root.find("s:polygon", NS).get("points").split()) == 3


def test_last_known_values_of_a_silent_station_are_marked_and_carry_no_arrow(silent):
    root = ET.fromstring(one_line(silent, Words("en")))
    said = words_of(root)
    assert "? −150.2 kW" in said
    assert "DC ? 801.2 V" in said
    assert "−150.2 kW" not in said
    assert root.findall("s:polygon", NS) == []
    assert "live" not in {t.get("class") for t in root.findall("s:text", NS)}
    assert root.find("s:desc", NS).text.startswith("values too old")
    circle = ET.fromstring(capability(silent.terminals[1], Words("en"), stale=True))
    assert "now" not in {c.get("class") for c in circle.findall("s:circle", NS)}
