"""Orders are read in full before anything happens, and every mistake is named with its key."""

import pytest

from firmware_sim.control import INJECTIONS
from firmware_sim.orders import SETTINGS, lasting_s, read_order


def test_every_fault_that_has_settings_can_be_injected():
    assert set(SETTINGS) <= set(INJECTIONS)


def test_text_from_a_command_line_and_numbers_read_alike():
    for order in ({"terminal": "2", "limit_w": "5e3"}, {"terminal": 2, "limit_w": 5000}):
        assert read_order("clip", order, terminals_count=4) == {"terminal": 2, "limit_w": 5000.0}
    for said in (False, "false", "no", "0", 0):
        assert read_order("reboot", {"remembering": said}) == {"remembering": False}
    assert read_order("reboot", {"remembering": "true"}) == {"remembering": True}
    assert read_order("derate", {}) == {"terminal": None, "ratio": 0.5}


@pytest.mark.parametrize(
    ("fault", "order", "words"),
    [
        ("trip", {}, "terminal is missing"),
        ("trip", {"terminal": 0}, "terminal: 0 is not 1 to 4"),
        ("trip", {"terminal": -1}, "terminal"),
        ("trip", {"terminal": 5}, "terminal"),
        ("trip", {"terminal": 1.5}, "no whole number"),
        ("trip", {"terminal": True}, "terminal"),
        ("trip", {"terminal": 1, "bits": 0}, "bits"),
        ("feeder", {"terminal": 1, "v_v": "300 V"}, "its unit stands in the key"),
        ("clip", {"terminal": 1, "limit_w": float("nan")}, "finite"),
        ("clip", {"terminal": 1, "limit_w": -1}, "below 0"),
        ("derate", {"terminal": 9}, "terminal"),
        ("wiring", {"arrangement": -1}, "0 to 47"),
        ("wiring", {"arrangement": 48}, "0 to 47"),
        ("reboot", {"remembering": "maybe"}, "neither true nor false"),
    ],
)
def test_mistakes(fault, order, words):
    with pytest.raises(ValueError, match=words):
        read_order(fault, order, terminals_count=4)


@pytest.mark.parametrize("for_s", ["30s", float("inf"), -1, True, 1e10, [1]])
def test_a_duration_that_is_none(for_s):
    with pytest.raises(ValueError, match="for_s"):
        lasting_s({"for_s": for_s})


def test_a_duration():
    assert lasting_s({}) is None
    assert lasting_s({"for_s": "30"}) == 30.0
