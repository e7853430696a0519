"""A page about one region's day: what was asked, what was chosen, prices and payments."""

from __future__ import annotations

from collections import defaultdict
from html import escape
from typing import TYPE_CHECKING, Any

from ledger.cli.plot import Line, bars, lines
from ledger.cli.round_page import MICRO, STYLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ledger.contracts.requests import Day

WH_PER_KWH = 1000


def page(day: Day, outcome: Mapping[str, Any]) -> str:
    """Write a self-contained page: no script, nothing fetched."""
    sold, paid = _money(day, outcome)
    charts = [
        _slots(
            day,
            "What the suppliers ask",
            {s.id: [p / MICRO for p in s.price_ucur_per_kwh] for s in day.suppliers},
            y_name="currency a kWh",
        ),
        _slots(day, "What was chosen from each supplier", _chosen_kwh(day, outcome), y_name="kWh"),
        *_proof(day, outcome),
        bars(
            "What each user pays, the way included",
            [(name, paid[name] / MICRO) for name in (u.id for u in day.users)],
            y_name="currency",
        ),
        bars(
            "What each supplier is paid",
            [(name, sold[name] / MICRO) for name in (s.id for s in day.suppliers)],
            y_name="currency",
        ),
    ]
    title = f"Day of {day.slot_count} slots, method {outcome['method']}"
    facts = {
        "cost, micro-currency": outcome["f1"] // WH_PER_KWH,
        "renewable energy, Wh": outcome["f2"],
        "unserved, Wh": outcome["unserved_wh"],
        "storage targets missed, Wh": outcome["target_missed_wh"],
    }
    rows = "".join(f"<tr><td>{escape(k)}</td><td>{v:,}</td></tr>" for k, v in facts.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>Digest <code>{escape(outcome['digest'])}</code></p>"
        + "".join(charts)
        + f"<table>{rows}</table></body></html>\n"
    )


def _slots(day: Day, title: str, series: Mapping[str, list[float]], *, y_name: str) -> str:
    """One curve a name over the slots of the day."""
    curves = [
        Line(name=name, points=[(float(t), value) for t, value in enumerate(values)])
        for name, values in series.items()
    ]
    return lines(title, curves, x_name=f"slot of {day.slot_s} s", y_name=y_name)


def _chosen_kwh(day: Day, outcome: Mapping[str, Any]) -> dict[str, list[float]]:
    found = {supplier.id: [0.0] * day.slot_count for supplier in day.suppliers}
    for flow in outcome["flows"]:
        found[flow["supplier"]][flow["slot"]] += flow["wh"] / WH_PER_KWH
    return found


def _proof(day: Day, outcome: Mapping[str, Any]) -> list[str]:
    """The price at each user, which only the exact method knows."""
    certificate = outcome.get("certificate")
    if certificate is None:
        return []
    prices = {
        user.id: [price / MICRO for price in row]
        for user, row in zip(day.users, certificate["y"], strict=True)
    }
    return [_slots(day, "What a further kWh costs at each user", prices, y_name="currency a kWh")]


def _money(day: Day, outcome: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """As offered: suppliers are paid what they asked, users also pay the way."""
    places = {supplier.id: i for i, supplier in enumerate(day.suppliers)}
    columns = {user.id: j for j, user in enumerate(day.users)}
    sold: defaultdict[str, int] = defaultdict(int)
    paid: defaultdict[str, int] = defaultdict(int)
    for flow in outcome["flows"]:
        i, j = places[flow["supplier"]], columns[flow["user"]]
        price = day.suppliers[i].price_ucur_per_kwh[flow["slot"]]
        way = day.transmission_ucur_per_kwh_km * day.distance_km[i][j]
        sold[flow["supplier"]] += price * flow["wh"] // WH_PER_KWH
        paid[flow["user"]] += (price + way) * flow["wh"] // WH_PER_KWH
    return sold, paid
