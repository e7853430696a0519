"""A page about one hco round: offers, the chosen point, prices and payments."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ledger.cli.plot import Line, bars, lines

if TYPE_CHECKING:
    from collections.abc import Mapping

MICRO = 1_000_000
"""Micro-currency in one of the currency, in which people read."""
STYLE = (
    "body{font-family:sans-serif;margin:2em;max-width:60em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{border:1px solid #ccc;padding:.3em .7em;text-align:right}"
    "th:first-child,td:first-child{text-align:left}code{font-size:90%}"
)


def page(round_: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    """Write a self-contained page: no script, nothing fetched."""
    interval = outcome["interval"]
    title = f"Round {interval['start']} to {interval['end']}"
    curves = []
    for terminal in sorted(round_["terminals"], key=lambda t: t["id"]):
        name, level = terminal["id"], outcome["levels"][terminal["id"]]
        offers = {int(k): v / MICRO for k, v in terminal["offers"].items()} | {0: 0.0}
        curves.append(
            Line(name=name, points=sorted(offers.items()), mark=(level, offers.get(level, 0.0)))
        )
    charts = [
        lines(
            "Offers, the chosen level ringed",
            curves,
            x_name="level (positive: the region imports)",
            y_name="currency",
        ),
        bars(
            "Payments (positive: the region pays)",
            [(name, paid / MICRO) for name, paid in outcome["transfers"].items()],
            y_name="currency",
        ),
        bars(
            "Price of what is traded: paid, or received, a kWh",
            [(name, price / MICRO) for name, price in outcome["unit_price_per_kwh"].items()],
            y_name="currency a kWh",
        ),
    ]
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{level:+d}</td><td>{outcome['energy_wh'][name]:+,}</td>"
        f"<td>{outcome['shares'][name]:,}</td><td>{outcome['transfers'][name]:+,}</td></tr>"
        for name, level in outcome["levels"].items()
    )
    trades = "".join(
        f"<tr><td><code>{escape(trade['id'])}</code></td><td>{escape(trade['out_terminal'])}</td>"
        f"<td>{escape(trade['in_terminal'])}</td><td>{trade['wh']:,}</td></tr>"
        for trade in outcome["trades"]
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
        f"<p>Combined value {outcome['value']:,}, fees {outcome['fees']:,} micro-currency. "
        f"Digest <code>{escape(outcome['digest'])}</code></p>"
        + "".join(charts)
        + "<table><tr><th>terminal</th><th>level</th><th>energy Wh</th><th>share µ</th>"
        f"<th>pays µ</th></tr>{rows}</table>"
        f"<table><tr><th>trade</th><th>from</th><th>to</th><th>Wh</th></tr>{trades}</table>"
        "</body></html>\n"
    )
