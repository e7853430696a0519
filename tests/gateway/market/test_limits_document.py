"""Feeder limits: written, read back, and refused with every reason."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_trades import CREATED_MS, START_MS, codes

from gateway.market import limits_document
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.reason import Reason

LIMITS = FeederLimits(
    site="bench4",
    sop="SOP-1",
    sequence_number=7,
    created_utc_ms=CREATED_MS,
    valid=Interval(START_MS, START_MS + 3_600_000),
    limits=(
        FeederLimit(domain="region-a", p_w_min=-100_000, p_w_max=50_000, cause="work on feeder A"),
        FeederLimit(domain="region-b", p_w_min=0, p_w_max=0),
    ),
)
BODY = limits_document.write(LIMITS)


def parsed(raw, site="bench4", sop="SOP-1"):
    return limits_document.parse(raw, site=site, sop=sop)


def test_what_is_written_is_read_back():
    assert parsed(BODY) == LIMITS


def test_a_limit_holds_for_its_region_while_it_is_valid():
    assert LIMITS.at("region-a", START_MS).p_w_max == 50_000
    assert LIMITS.at("region-a", START_MS + 3_600_000) is None
    assert LIMITS.at("region-a", START_MS - 1) is None
    assert LIMITS.at("region-c", START_MS) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema": "sopgw/v2/limits"}, ["code"]),
        ({"site": "other"}, ["unknown_site"]),
        ({"sop": "SOP-9"}, ["unknown_sop"]),
        ({"sequence": 0}, ["out_of_range"]),
        ({"sequence": 1.0}, ["not_integer"]),
        ({"created": "now"}, ["time"]),
        ({"valid": {"start": "2026-01-02T03:00Z", "end": "2026-01-02T02:00Z"}}, ["time"]),
        ({"limits": []}, ["form"]),
        ({"limits": None}, ["missing_field"]),
        ({"extra": 1}, ["unknown_field"]),
        ({"limits": [{"domain": "a", "p_w_min": 1, "p_w_max": 0}]}, ["out_of_range"]),
        ({"limits": [{"domain": "a", "p_w_min": 0, "p_w_max": -1}]}, ["out_of_range"]),
        ({"limits": [{"domain": "a/b", "p_w_min": 0, "p_w_max": 1}]}, ["identifier"]),
        ({"limits": [{"domain": "a", "p_w_min": 0}]}, ["missing_field"]),
        (
            {"limits": [{"domain": "a", "p_w_min": 0, "p_w_max": 1, "cause": "x" * 201}]},
            ["oversized"],
        ),
        ({"limits": [{"domain": "a", "p_w_min": 0, "p_w_max": 1}] * 2}, ["duplicate"]),
        ({"limits": [{"domain": "a", "p_w_min": 0, "p_w_max": 1}] * 65}, ["oversized"]),
    ],
)
def test_every_mistake_is_named(changes, expected):
    assert codes(parsed(json.dumps(json.loads(BODY) | changes).encode())) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(json.loads(BODY))),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["domain", "p_w_min", "start", "x"]), inner)
        ),
        max_leaves=12,
    ),
)
def test_no_value_anywhere_brings_it_down(name, value):
    found = parsed(json.dumps(json.loads(BODY) | {name: value}).encode())
    assert isinstance(found, FeederLimits) or all(isinstance(r, Reason) for r in found)


@pytest.mark.parametrize("name", ["schema", "site", "sop", "created"])
def test_an_empty_text_is_a_fault(name):
    reasons = parsed(json.dumps({**json.loads(BODY), name: ""}).encode())
    assert codes(reasons) == ["form"]
