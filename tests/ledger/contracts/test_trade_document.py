import re
from decimal import Decimal

import pytest

from gateway.market import dsse, schedule_document
from ledger.contracts.document import canonical
from ledger.contracts.hco_document import round_from
from ledger.contracts.hco_settlement import outcome
from ledger.contracts.trade_document import Parties, documents_of, thousandths
from ledger.network.dsse import envelope


def parties(n):
    return Parties(
        site="bench4",
        sop="SOP-1",
        created="2026-01-02T01:56:00Z",
        sender="market-1",
        receiver="gateway",
        currency="CNY",
        domain={f"T{i}": f"region-{i}" for i in range(n)},
        party={f"T{i}": f"agg-{i}" for i in range(n)},
    )


def an_outcome(values, *, end="2026-01-02T02:15Z"):
    reach = 6
    return outcome(
        round_from(
            {
                "contract": "hco-1",
                "interval": {"start": "2026-01-02T02:00Z", "end": end},
                "quantum_w": 36_000,
                "terminals": [
                    {"id": f"T{i}", "s_va": 250_000, "k_min": -6, "k_max": 6, "offers": {str(k): v * k for k in range(-reach, reach + 1)}}
                    for i, v in enumerate(values)
                ],
                "k_dc": 50,
            }
        )
    )  # fmt: skip


def test_in_is_the_buyer_and_out_the_seller():
    (document,) = documents_of(an_outcome([10, 90]), parties(2), interval_s=900)
    (series,) = document["Schedule_MarketDocument"]["TimeSeries"]
    assert series["in_Domain.mRID"]["value"] == "region-1"
    assert series["out_Domain.mRID"]["value"] == "region-0"
    assert series["in_MarketParticipant.mRID"]["value"] == "agg-1"
    assert series["connectingLine_RegisteredResource.mRID"]["value"] == "SOP-1"
    point = series["Period"][0]["Point"][0]
    assert point == {"position": 1, "quantity": "216", "price.amount": "0.005"}
    assert series["Period"][0]["resolution"] == "PT15M"


@pytest.mark.parametrize(("end", "name", "seconds"), [("2026-01-02T02:05Z", "PT5M", 300), ("2026-01-02T02:01Z", "PT1M", 60)])  # fmt: skip
def test_resolutions(end, name, seconds):
    (document,) = documents_of(an_outcome([10, 90], end=end), parties(2), interval_s=seconds)
    assert document["Schedule_MarketDocument"]["TimeSeries"][0]["Period"][0]["resolution"] == name


def test_many_trades_are_spread_over_documents_and_every_id_is_fit_for_a_topic():
    found = an_outcome([10] * 5 + [90] * 5)
    documents = documents_of(found, parties(10), interval_s=900)
    ids = []
    for document in documents:
        series = document["Schedule_MarketDocument"]["TimeSeries"]
        assert series
        ids += [one["marketAgreement.mRID"] for one in series]
        for one in series:
            quantity = Decimal(one["Period"][0]["Point"][0]["quantity"])
            assert quantity * 250 == int(quantity * 250)  # whole Wh in 15 min
    assert sorted(ids) == sorted(trade["id"] for trade in found["trades"])
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,59}", one) for one in ids)
    assert len({d["Schedule_MarketDocument"]["mRID"] for d in documents}) == len(documents)


class OfAnyBody:
    """A signature has its length whoever makes it."""

    def sign(self, data):
        return bytes(64)


@pytest.mark.parametrize("length", [3, 16, 36, 48, 60])
def test_the_gateway_takes_every_document_however_long_the_names_are(length):
    """One it can not take leaves the whole round unanswered, and what flows of it unpaid."""

    def longest(name):
        return name.ljust(length, "x")

    found = an_outcome([10] * 5 + [90] * 5)
    terminals = [f"T{i}" for i in range(10)]
    everybody = Parties(
        site=longest("s"), sop=longest("p"), created="2026-01-02T01:56:00Z", sender=longest("m"),
        receiver=longest("g"), currency="CNY",
        domain={t: longest(f"d{t}") for t in terminals}, party={t: longest(f"p{t}") for t in terminals},
    )  # fmt: skip
    claimed = []
    for document in documents_of(found, everybody, interval_s=900):
        signed = envelope(document, OfAnyBody(), bytes(32))
        for _ in range(3):  # room for the signatures of others
            signed["signatures"].append(signed["signatures"][0])
        body = dsse.peek(canonical(signed))
        assert body is not None, len(canonical(signed))
        trades = schedule_document.parse(body, site=everybody.site)
        claimed += [trade.id for trade in trades]
        series = document["Schedule_MarketDocument"]["TimeSeries"]
        assert [one["mRID"] for one in series] == [str(n) for n in range(1, len(series) + 1)]
    assert claimed == [trade["id"] for trade in found["trades"]]


def test_a_round_without_trades_gives_no_document():
    assert documents_of(an_outcome([0, 0]), parties(2), interval_s=900) == []


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1500, "1.5"), (66_668, "66.668"), (-5, "-0.005"), (-2000, "-2")])  # fmt: skip
def test_thousandths_are_exact(value, text):
    assert thousandths(value) == text
    assert Decimal(text) * 1000 == value
