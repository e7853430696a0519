"""``sopgw trade watch``: a line whenever a trade of these hours changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import command, emit, say, site_option
from gateway.cli.quantities import DURATION_MS

PARTS = 10  # of the energy: a line for each tenth delivered, not for each reading


@command(
    "watch",
    schema="trade.watch",
    examples=(
        ("sopgw trade watch -c site.yaml", "taken in, planned, running, delivered; Ctrl-C ends"),
        ("sopgw trade watch --count 60 --json -c site.yaml", "what changed in a minute"),
    ),
)
@site_option
@click.option("--every", type=DURATION_MS, default="1s", show_default=True)
@click.option("--count", type=click.IntRange(1), help="End after so many looks.")
def watch(*, config_path: Path, every: int, count: int | None) -> None:
    """Follow the trades of the hours around now at the running gateway."""
    import time

    from gateway.cli.running import ask_gateway
    from gateway.cli.status import instant, trade_text

    known: dict[tuple[str, int], tuple[Any, ...]] = {}
    seen: list[dict[str, Any]] = []
    looks = 0
    while count is None or looks < count:
        if looks:
            time.sleep(every / 1000)
        found = ask_gateway(config_path, {"verb": "status"})["status"]
        changed = changes(known, found["trades"])
        for trade in changed:
            say(f"{instant(found['utc_ms'])}  {trade_text(trade)}")
        if count is not None:  # without an end there is no answer to keep them for
            seen += [{"utc_ms": found["utc_ms"], **trade} for trade in changed]
        looks += 1
    emit({"changes": seen}, text="" if known else "no trade of these hours")


def changes(
    known: dict[tuple[str, int], tuple[Any, ...]], trades: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Return the trades that are not as known, and remember them."""
    changed = []
    for trade in trades:
        delivered, contracted = trade["delivered_wh"], trade["contracted_wh"]
        part = -1 if delivered is None else PARTS * delivered // max(1, contracted)
        now = (trade["status"], part, *trade["reasons"])
        place = (trade["id"], trade["start_us"])
        if known.get(place) != now:
            known[place] = now
            changed.append(trade)
    return changed
