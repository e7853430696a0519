"""``sopgw status``: one page of what goes on, once or again and again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import command, current, emit, site_option
from gateway.cli.quantities import DURATION_MS
from gateway.cli.running import ask_gateway
from gateway.model.units import signed_kw_text


@command(
    "status",
    schema="status",
    examples=(
        ("sopgw status -c site.yaml", "mode, state, powers, trades, alarms, ledger"),
        ("sopgw status --watch -c site.yaml", "again every second, plain text, any terminal"),
        ("sopgw status -c site.yaml --json", "the same for a program"),
    ),
)
@site_option
@click.option("--watch", is_flag=True, help="Again and again until Ctrl-C.")
@click.option("--every", type=DURATION_MS, default="1s", show_default=True, help="With --watch.")
@click.option("--count", type=click.IntRange(1), help="With --watch: end after so many.")
def status(*, config_path: Path, watch: bool, every: int, count: int | None) -> None:
    """Show the running gateway's mode, state, powers, trades, alarms and ledger."""
    found = ask_gateway(config_path, {"verb": "status"})["status"]
    shown = 1
    while watch and not current().json and (count is None or shown < count):
        _show(found)
        _pause(every / 1000)
        found = ask_gateway(config_path, {"verb": "status"})["status"]
        shown += 1
    emit(found, text=lambda: text_of(found))


def _show(found: Mapping[str, Any]) -> None:
    """Print one page; on a terminal in the place of the last one, without colour."""
    if sys.stdout.isatty():
        click.echo("\x1b[H\x1b[J" + text_of(found))
    else:
        click.echo(text_of(found) + "\n")


def _pause(span_s: float) -> None:
    import time

    time.sleep(span_s)


def text_of(found: Mapping[str, Any]) -> str:
    """Write the status for people, 80 columns wide."""
    armed = "" if found["armed"] else "   NOT ARMED (sopgw arm)"
    simulated = "   SIMULATED" if found["simulated"] else ""
    lines = [
        f"{found['site']} {found['sop']}   mode {found['mode']}   state {found['state']}{armed}"
        f"{simulated}   {instant(found['utc_ms'])}",
        *(f"  because  {reason}" for reason in found["reasons"]),
        f"Control  {holder_text(found['control'])}",
    ]
    for terminal in found["terminals"]:
        meter = terminal["meter_p_w"]
        metered = "" if meter is None else f"   meter {kw(meter)}"
        wanted = "residual" if terminal["master"] else kw(terminal["p_w_set"])
        lines.append(
            f"  {terminal['id']:<4} set {wanted:>9}   measured {kw(terminal['p_w'])}{metered}"
            f"   {terminal['state']}"
        )
    if found["v_dc_dv"] is not None:
        lines.append(
            f"  DC   {found['v_dc_dv'] / 10:.1f} V   losses {found['loss_w'] / 1000:.1f} kW   "
            f"read {found['station_age_ms']} ms ago"
        )
    broker = "online" if found["broker_online"] else "OFFLINE"
    ledger = found["ledger"]
    anchored = "NOT ANCHORED"
    if ledger["contradiction"]:
        anchored = f"CONTRADICTED: {ledger['contradiction']}"
    elif ledger["anchored"]:
        anchored = f"{ledger['anchored_size']} anchored by {', '.join(ledger['anchored_by'])}"
    lines += [
        f"Market   {broker}, {found['scheduled_intervals']} intervals scheduled, "
        f"{found['open_intervals']} planned",
        *(f"  {trade_text(t)}" for t in found["trades"][:6]),
        f"Alarms   {alarm_count(found['alarm_rows'])}",
        *(f"  {line}" for line in alarm_lines(found["alarm_rows"])),
        f"Ledger   {ledger['entries']} entries, {anchored}",
    ]
    return "\n".join(lines)


def kw(p_w: int) -> str:
    """Write a power in kW; what rounds to zero has no sign."""
    return f"{signed_kw_text(p_w):>10}"


def instant(utc_ms: int) -> str:
    """Write the time of day, UTC."""
    import datetime as dt

    return f"{dt.datetime.fromtimestamp(utc_ms / 1000, tz=dt.UTC):%H:%M:%S}Z"


def holder_text(control: Mapping[str, Any]) -> str:
    """Say who holds control."""
    if control["holder"] == "trades":
        return "trade scheduler"
    what = f" for `{control['what']}`" if control["what"] else ""
    return f"{control['holder']}{what} until {instant(control['until_ms'])}"


def trade_text(trade: Mapping[str, Any]) -> str:
    """Write one trade in one line: what was agreed and what came of it so far."""
    delivered = trade["delivered_wh"]
    got = "      –" if delivered is None else f"{delivered / 1000:7.2f}"
    start, end = (instant(trade[k] // 1000)[:5] for k in ("start_us", "end_us"))
    why = f"  {trade['reasons'][0]}" if trade["reasons"] else ""
    return (
        f"{trade['id'][:12]:<12} {trade['out_terminal']}→{trade['in_terminal']} {start}–{end}  "
        f"{got} of {trade['contracted_wh'] / 1000:.2f} kWh  {trade['status']}{why}"
    )


def alarm_count(rows: list[Mapping[str, Any]]) -> str:
    """Count by urgency: high, medium, low; shelved ones apart."""
    loud = [r for r in rows if r["active"] and r["shelved_until_us"] is None]
    shelved = sum(r["shelved_until_us"] is not None for r in rows)
    by = [sum(r["priority_level"] == n for r in loud) for n in (1, 2, 3)]
    tail = f"  ({shelved} shelved)" if shelved else ""
    return f"H{by[0]} M{by[1]} L{by[2]}{tail}"


def alarm_lines(rows: list[Mapping[str, Any]], *, count_max: int = 5) -> list[str]:
    """Write the most urgent alarms, one line each."""
    from gateway.cli.alarm import glyph

    seen = [r for r in rows if r["shelved_until_us"] is None]
    shown = [r for r in seen if r["active"] or not r["acknowledged"]]
    lines = []
    for row in shown[:count_max]:
        detail = f" ({row['detail']})" if row["detail"] else ""
        mark = "" if row["acknowledged"] else " !"
        gone = "" if row["active"] else " (cleared)"
        lines.append(f"{glyph(row)}{mark} {row['code']} {row['what']}{detail}{gone}")
    if len(shown) > count_max:
        lines.append(f"… {len(shown) - count_max} more: sopgw alarm ls")
    return lines
