"""The signed message behind a trade: what strangers may write into it, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ledger.audit import trade
from ledger.audit.delivery import EntryError


def document(quantity: str, **point: Any) -> bytes:
    period = {
        "timeInterval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
        "resolution": "PT15M",
        "Point": [{"position": 1, "quantity": quantity, **point}],
    }
    series = {"marketAgreement.mRID": "A-1", "Period": [period]}
    return json.dumps({"Schedule_MarketDocument": {"TimeSeries": [series]}}).encode()


def test_energies_by_interval() -> None:
    start_ms = 1_767_319_200_000
    found = trade.contracted(document("40.004"), "A-1")
    assert found == {(start_ms, start_ms + 900_000): 10_001}
    assert trade.contracted(document("40"), "A-2") == {}


@pytest.mark.parametrize(
    "quantity",
    ["Infinity", "-Infinity", "NaN", "sNaN", "1E+999999", "9E+999990", "-9E+999990", "1E+16",
     "1E-999999", "0.001", "x", ""],
)  # fmt: skip
def test_a_quantity_that_is_no_energy_is_refused(quantity: str) -> None:
    with pytest.raises(EntryError):
        trade.contracted(document(quantity), "A-1")


@pytest.mark.parametrize(
    "body", [b"[]", b'{"Schedule_MarketDocument":{"TimeSeries":[5]}}', b"\xff"]
)
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(EntryError):
        trade.contracted(body, "A-1")


def test_a_time_that_is_no_text_is_refused() -> None:
    body = document("4").replace(b'"2026-01-02T02:00Z"', b"5")
    with pytest.raises(EntryError):
        trade.contracted(body, "A-1")


def terms(series_count: int, **changes: Any) -> bytes:
    root = json.loads(document("40"))["Schedule_MarketDocument"]
    names = ("in_Domain.mRID", "out_Domain.mRID", "connectingLine_RegisteredResource.mRID")
    one = {**root["TimeSeries"][0], **{name: {"value": name[:3]} for name in names}}
    root = {"domain.mRID": {"value": "bench"}, "revisionNumber": "2", **changes}
    return json.dumps(
        {"Schedule_MarketDocument": {**root, "TimeSeries": [one] * series_count}}
    ).encode()


def test_the_terms_are_all_that_is_signed_for_a_trade() -> None:
    found = trade.signed_terms(terms(1), "A-1")
    assert (found.site, found.sop, found.revision_number) == ("bench", "con", 2)
    assert (found.out_domain, found.in_domain) == ("out", "in_")
    assert list(found.energies.values()) == [10_000]


@pytest.mark.parametrize(
    "body",
    [terms(0), terms(2), terms(1, revisionNumber="two"), terms(1, **{"domain.mRID": "bench"}),
     document("40")],
    ids=["no series", "two series", "no number", "no site", "no regions"],
)  # fmt: skip
def test_a_document_without_clear_terms_is_refused(body: bytes) -> None:
    with pytest.raises(EntryError):
        trade.signed_terms(body, "A-1")
