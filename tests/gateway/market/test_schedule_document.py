"""The market document: what is written is read back, and every mistake is named with its place."""

import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_trades import CREATED_MS, START_MS, body, codes, trade

from gateway.market import schedule_document
from gateway.market.schedule_document import Document, parse, read, write
from gateway.model.interval import RESOLUTIONS_MS
from gateway.model.reason import Reason
from gateway.model.trade import Trade

ROOT = "Schedule_MarketDocument"
DELETE = object()


def edited(*path, to, raw=None):
    """Return the document with one value replaced (or deleted)."""
    document = json.loads(raw or body())
    place = document
    for step in path[:-1]:
        place = place[step]
    if to is DELETE:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return json.dumps(document).encode()


SERIES = (ROOT, "TimeSeries", 0)
PERIOD = (*SERIES, "Period", 0)
POINT = (*PERIOD, "Point", 0)


def test_a_written_trade_is_read_back():
    assert parse(body()) == [trade()]


def test_in_is_the_buyer_and_out_the_seller():
    series = json.loads(body(seller="region-b", buyer="region-a"))[ROOT]["TimeSeries"][0]
    assert series["in_Domain.mRID"]["value"] == "region-a"
    assert series["out_Domain.mRID"]["value"] == "region-b"
    (read_back,) = parse(body(seller="region-b", buyer="region-a"))
    assert (read_back.in_domain, read_back.out_domain) == ("region-a", "region-b")


@pytest.mark.parametrize("resolution", RESOLUTIONS_MS)
def test_every_resolution_gives_whole_energy(resolution):
    step_ms = RESOLUTIONS_MS[resolution]
    one = trade(p_w=(60_000, 0, 120_000), step_ms=step_ms)
    assert parse(write(one, site="bench4", created_utc_ms=CREATED_MS)) == [one]
    assert one.positions[0].energy_wh == 60_000 * step_ms // 3_600_000


def test_a_document_may_carry_several_trades_and_prices():
    first = trade()
    second = trade(id="trd-2", p_w=(4_000, 8_000), start_ms=START_MS + 900_000)
    document = read(
        write(first, site="bench4", created_utc_ms=CREATED_MS, price=Decimal("408.5"), currency="CNY",
              buyer="U3", seller="W1", extension={"contract": "hco", "height": 812})
    )  # fmt: skip
    assert isinstance(document, Document)
    (series,) = document.series
    assert (series.buyer, series.seller, series.currency) == ("U3", "W1", "CNY")
    assert series.prices == (Decimal("408.5"),)
    assert document.extension == {"contract": "hco", "height": 812}
    both = json.loads(body())
    other = json.loads(write(second, site="bench4", created_utc_ms=CREATED_MS))[ROOT]
    both[ROOT]["TimeSeries"].append(other["TimeSeries"][0])
    both[ROOT]["schedule_Time_Period.timeInterval"]["end"] = "2026-01-02T02:45Z"
    assert parse(json.dumps(both).encode()) == [first, second]


def test_one_trade_may_have_periods_with_a_pause_between():
    step = 900_000
    early, late = trade(), trade(start_ms=START_MS + 4 * step, p_w=(8_000, 12_000))
    positions = early.positions + late.positions
    gap = Trade(
        **{f: getattr(early, f) for f in Trade.__slots__ if f != "positions"}, positions=positions
    )
    assert parse(write(gap, site="bench4", created_utc_ms=CREATED_MS)) == [gap]


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        ((*POINT, "quantity"), 1.5, ["not_integer"]),
        ((*POINT, "quantity"), float("nan"), ["not_integer"]),
        ((*POINT, "quantity"), float("inf"), ["not_integer"]),
        ((*POINT, "quantity"), 1e300, ["not_integer"]),
        ((*POINT, "quantity"), "1e3", ["not_integer"]),
        ((*POINT, "quantity"), "0x10", ["not_integer"]),
        ((*POINT, "quantity"), " 120", ["not_integer"]),
        ((*POINT, "quantity"), "120,5", ["not_integer"]),
        ((*POINT, "quantity"), "١٢٠", ["not_integer"]),
        ((*POINT, "quantity"), True, ["not_integer"]),
        ((*POINT, "quantity"), None, ["missing_field"]),
        ((*POINT, "quantity"), DELETE, ["missing_field"]),
        ((*POINT, "quantity"), "-120", ["negative"]),
        ((*POINT, "quantity"), -1, ["negative"]),
        ((*POINT, "quantity"), 2**53, ["out_of_range"]),
        ((*POINT, "quantity"), 10**30, ["out_of_range"]),
        ((*POINT, "quantity"), "1000001", ["out_of_range"]),
        ((*POINT, "quantity"), "0.0001", ["not_integer"]),
        ((*POINT, "quantity"), "0.001", ["energy_not_whole"]),
        ((*POINT, "position"), 2, ["positions"]),
        ((*POINT, "position"), 0, ["out_of_range"]),
        ((*POINT, "position"), "x", ["not_integer"]),
        ((*POINT, "price.amount"), "free", ["not_integer"]),
        ((*POINT, "price.amount"), "4.5", ["currency"]),
        ((*POINT, "unit"), "KWT", ["unknown_field"]),
        ((*PERIOD, "Point"), [], ["form", "positions"]),
        ((*PERIOD, "Point"), [1], ["form", "positions"]),
        ((*PERIOD, "resolution"), "PT30M", ["resolution"]),
        ((*PERIOD, "resolution"), "PT1M", ["positions"]),
        ((*PERIOD, "timeInterval"), {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:30Z"}, ["time", "positions"]),
        ((*PERIOD, "timeInterval"), {"start": "2026-01-02T02:01Z", "end": "2026-01-02T02:16Z"}, ["time", "time"]),
        ((*PERIOD, "timeInterval"), {"start": "2026-01-02T02:15Z", "end": "2026-01-02T02:00Z"}, ["time"]),
        ((*PERIOD, "timeInterval", "start"), "2026-01-02T02:00+08:00", ["time"]),
        ((*PERIOD, "timeInterval", "start"), "2026-01-02T02:00", ["time"]),
        ((*PERIOD, "timeInterval", "start"), "2026-02-30T02:00Z", ["time"]),
        ((*PERIOD, "timeInterval", "start"), "1026-02-03T02:00Z", ["time"]),
        ((*SERIES, "measurement_Unit.name"), "MAW", ["unit"]),
        ((*SERIES, "curveType"), "A03", ["code"]),
        ((*SERIES, "businessType"), "A01", ["code"]),
        ((*SERIES, "product"), "1", ["code"]),
        ((*SERIES, "currency_Unit.name"), "yuan", ["currency"]),
        ((*SERIES, "marketAgreement.mRID"), "a/b", ["identifier"]),
        ((*SERIES, "marketAgreement.mRID"), "../../etc/passwd", ["identifier"]),
        ((*SERIES, "marketAgreement.mRID"), "+", ["identifier"]),
        ((*SERIES, "marketAgreement.mRID"), "x" * 61, ["identifier"]),
        ((*SERIES, "marketAgreement.mRID"), 7, ["form"]),
        ((*SERIES, "marketAgreement.mRID"), "\ud800", ["form", "form"]),
        ((*SERIES, "in_Domain.mRID"), "region-a", ["form"]),
        ((*SERIES, "in_Domain.mRID", "codingScheme"), "zz", ["code"]),
        ((*SERIES, "in_Domain.mRID", "value"), "region-b", ["same_domain"]),
        ((*SERIES, "quantity_Measure_Unit.name"), "KWT", ["unknown_field"]),
        ((*SERIES, "Period"), {}, ["form"]),
        ((ROOT, "TimeSeries"), [], ["form"]),
        ((ROOT, "TimeSeries"), [None], ["form"]),
        ((ROOT, "TimeSeries"), [[[[[[[[[1]]]]]]]]], ["depth"]),
        ((ROOT, "revisionNumber"), "0", ["out_of_range"]),
        ((ROOT, "revisionNumber"), "one", ["not_integer"]),
        ((ROOT, "type"), "A99", ["code"]),
        ((ROOT, "createdDateTime"), "yesterday", ["time"]),
        ((ROOT, "domain.mRID", "value"), "elsewhere", ["unknown_site"]),
        ((ROOT,), [], ["form"]),
        ((ROOT,), DELETE, ["missing_field"]),
        (("x-ledger",), 3, ["form"]),
        (("x-sig",), [], ["unknown_field"]),
    ],
)  # fmt: skip
def test_every_mistake_is_named(path, to, expected):
    found = parse(edited(*path, to=to), site="bench4")
    assert codes(found) == expected
    assert all(isinstance(r, Reason) and r.detail for r in found)


def test_all_mistakes_come_in_one_answer():
    raw = edited(*POINT, "quantity", to=1.5)
    raw = edited(*SERIES, "measurement_Unit.name", to="MWH", raw=raw)
    raw = edited(*PERIOD, "resolution", to="PT1H", raw=raw)
    raw = edited(ROOT, "surprise", to=1, raw=raw)
    raw = edited(ROOT, "domain.mRID", "value", to="other", raw=raw)
    assert sorted(codes(parse(raw, site="bench4"))) == [
        "not_integer", "resolution", "unit", "unknown_field", "unknown_site",
    ]  # fmt: skip


def test_a_reason_names_the_place():
    (reason,) = parse(edited(*POINT, "quantity", to=1.5))
    assert reason.detail.startswith(f"/{ROOT}/TimeSeries/0/Period/0/Point/0/quantity: '1.5'")


def test_the_same_trade_twice_in_a_document_is_refused():
    raw = json.loads(body())
    raw[ROOT]["TimeSeries"] *= 2
    assert codes(parse(json.dumps(raw).encode())) == ["duplicate"]


def test_overlapping_periods_are_refused():
    raw = json.loads(body())
    raw[ROOT]["TimeSeries"][0]["Period"] *= 2
    assert codes(parse(json.dumps(raw).encode())) == ["positions"]


def test_a_key_that_stands_twice_is_refused():
    raw = body().replace(b'"mRID":"trd-1-doc"', b'"mRID":"trd-1-doc","mRID":"trd-2-doc"')
    assert codes(parse(raw)) == ["duplicate_key"]


def test_an_answer_stays_small_however_much_is_wrong():
    raw = json.loads(body())
    raw[ROOT] |= {f"unknown-{i}": i for i in range(1000)}
    assert len(parse(json.dumps(raw).encode())) == 50


def test_a_refused_document_still_names_its_trades():
    assert schedule_document.claimed(edited(*POINT, "quantity", to=1.5)) == (("trd-1",), 1)
    assert schedule_document.claimed(edited(*SERIES, "marketAgreement.mRID", to="a/b")) == ((), 1)
    assert schedule_document.claimed(b"{") == ((), 0)
    assert schedule_document.claimed(edited(ROOT, to=[])) == ((), 0)


def test_writing_is_canonical():
    assert body() == json.dumps(json.loads(body()), sort_keys=True, separators=(",", ":")).encode()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 250_000).map(lambda q: q * 4), min_size=1, max_size=8),
    st.integers(1, 999_999),
    st.integers(0, 100_000),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,50}", fullmatch=True).filter(str.isascii),
)
def test_any_trade_survives_the_way_there_and_back(powers, revision, steps, name):
    one = trade(id=name, p_w=tuple(powers), revision=revision, start_ms=START_MS + steps * 900_000)
    assert parse(write(one, site="bench4", created_utc_ms=CREATED_MS)) == [one]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_bring_it_down(raw):
    found = parse(raw)
    assert found
    assert all(isinstance(r, Reason) for r in found)
    schedule_document.claimed(raw)


KEYS = st.sampled_from(
    [ROOT, "TimeSeries", "Period", "Point", "mRID", "quantity", "position", "timeInterval", "start",
     "resolution", "in_Domain.mRID", "value", "revisionNumber", "marketAgreement.mRID", "x"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(ROOT,), SERIES, PERIOD, POINT, (*SERIES, "in_Domain.mRID")]), KEYS, VALUES)
def test_no_value_anywhere_brings_it_down(path, name, value):
    found = parse(edited(*path, name, to=value))
    assert found
    schedule_document.claimed(edited(*path, name, to=value))


def emptied(value, path=""):
    """Yield the document once for every text in it, with that text empty."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, str):
            value[key] = ""
            yield f"{path}/{key}"
            value[key] = inner
        elif isinstance(inner, dict | list):
            yield from emptied(inner, f"{path}/{key}")


def test_an_empty_text_is_a_fault_wherever_it_stands():
    found = json.loads(body())
    places = list(emptied(found))
    assert len(places) > 30
    for place in emptied(found):
        reasons = schedule_document.read(json.dumps(found).encode(), site="bench4")
        assert isinstance(reasons, list), place
        assert reasons, place
        assert any(place.rsplit("/", 1)[1] in r.detail for r in reasons), place
