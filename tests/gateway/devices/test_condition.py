import pytest

from gateway.devices.condition import ConditionError, holds, points_in

VALUES = {"state.code": "fault", "q1": "open", "p": -5, "v": 231.5, "gone": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state.code == fault", True),
        ("state.code != fault", False),
        ("state.code in [fault, estop]", True),
        ("state.code in [run]", False),
        ("p < 0", True),
        ("p >= -5 and v > 231", True),
        ("p > 0 and v > 231", False),
        ("p > 0 or q1 == open", True),
        ("p == -5", True),
        ("gone == anything", True),  # not knowing forbids
        ("gone == x and p > 0", False),
    ],
)
def test_conditions(text, expected):
    assert holds(text, VALUES.get) is expected


def test_points_and_nonsense():
    assert points_in("a.b == 1 and c in [x, y] or d < 2") == ("a.b", "c", "d")
    for wrong in ("", "p", "p = 1", "p < word", "state.code < 3", "p in 1"):
        with pytest.raises(ConditionError):
            holds(wrong, VALUES.get)
