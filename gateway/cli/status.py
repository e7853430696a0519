"""``sopgw status``: one page of what goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.cli.output import command, emit, site_option
from gateway.cli.running import ask_gateway


@command(
    "status",
    schema="status",
    examples=(
        ("sopgw status -c site.yaml", "mode, state, powers, alarms, ledger"),
        ("sopgw status -c site.yaml --json", "the same for a program"),
    ),
)
@site_option
def status(config_path: Path) -> None:
    """Show the running gateway's mode, state, powers, alarms and ledger."""
    found = ask_gateway(config_path, {"verb": "status"})["status"]
    emit(found, text=text_of(found))


def text_of(found: dict[str, Any]) -> str:
    """Write the status for people."""
    armed = "" if found["armed"] else "   NOT ARMED (sopgw arm)"
    lines = [
        f"{found['site']} {found['sop']}   mode {found['mode']}   state {found['state']}{armed}",
        *(f"  because  {reason}" for reason in found["reasons"]),
    ]
    for terminal in found["terminals"]:
        lines.append(
            f"  {terminal['id']:<4} set {terminal['p_w_set'] / 1000:+8.1f} kW   "
            f"measured {terminal['p_w'] / 1000:+8.1f} kW   {terminal['state']}"
        )
    if found["v_dc_dv"] is not None:
        lines.append(
            f"  DC   {found['v_dc_dv'] / 10:.1f} V   read {found['station_age_ms']} ms ago"
        )
    broker = "online" if found["broker_online"] else "OFFLINE"
    anchored = "anchored" if found["ledger"]["anchored"] else "NOT ANCHORED"
    lines += [
        f"Alarms   {', '.join(found['alarms']) or 'none'}",
        f"Market   {broker}, {found['scheduled_intervals']} intervals scheduled, "
        f"{found['open_intervals']} planned",
        f"Ledger   {found['ledger']['entries']} entries, {anchored}",
    ]
    return "\n".join(lines)
