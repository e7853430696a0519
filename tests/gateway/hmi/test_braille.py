from hypothesis import given
from hypothesis import strategies as st

from gateway.hmi import braille

START = 1_767_319_200_000_000


def test_canvas_draws_a_line_from_corner_to_corner():
    canvas = braille.Canvas(width=2, height=1)
    canvas.segment(0, 3, 3, 0)
    assert canvas.rows() == ["\u2860\u280a"]


def test_plot_has_scale_axis_and_both_series():
    measured = [(START + k * 60_000_000, 100.0 if k < 15 else 0.0) for k in range(31)]
    dotted = [(START, 80.0), (START + 1_800_000_000, 80.0)]
    lines = braille.plot(measured, dotted=dotted, width=60, height=8, unit="kW").splitlines()
    assert len(lines) == 10
    assert lines[0].strip() == "kW"
    assert lines[-1].endswith("UTC")
    assert "02:10" in lines[-1]
    assert any(line.startswith("    100┤") for line in lines)
    assert any(line.startswith("      0┤") for line in lines)


def test_ascii_form_uses_ascii_only():
    measured = [(START, -50.0), (START + 900_000_000, 50.0)]
    text = braille.plot(measured, dotted=measured, width=50, height=6, unit="kW", ascii_only=True)
    assert text.isascii()
    assert "*" in text
    assert "." in text
    assert "-50+" in text.replace(" ", "")


def test_gap_breaks_the_line():
    whole = [(START + k * 1_000_000, 0.0) for k in range(101)]
    broken = [(t, None if 40 <= i <= 60 else v) for i, (t, v) in enumerate(whole)]
    count = [
        sum(map(str(braille.plot(p, width=60, height=2)).count, "⠉⠒⠤⣀⠂⠐⠠⠄⠁⠈⢀⡀"))
        for p in (whole, broken)
    ]
    assert 0 < count[1] < count[0]


def test_nothing_to_draw_gives_no_text():
    assert braille.plot([], width=60, height=8) == ""
    assert braille.plot([(START, None)], width=60, height=8) == ""


points = st.lists(
    st.tuples(st.integers(START, START + 10**11), st.none() | st.floats(-1e5, 1e5)), max_size=80
).map(lambda p: sorted(p, key=lambda q: q[0]))


@given(points, points, st.integers(12, 120), st.integers(2, 30), st.booleans())
def test_plot_never_leaves_its_box(measured, dotted, width, height, ascii_only):
    text = braille.plot(
        measured, dotted=dotted, width=width, height=height, unit="kW", ascii_only=ascii_only
    )
    lines = text.splitlines()
    assert lines == [] or len(lines) == height + 2
    assert all(len(line) <= width for line in lines)
