"""``sopgw alarm``: what stands, who acknowledged or shelved it, and how many there were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.names import ALARM, alarms
from gateway.cli.output import ExitCode, emit, fail, group, site_option, warn
from gateway.cli.quantities import DURATION_MS
from gateway.cli.running import ask_gateway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.config.site_file import Site
    from gateway.core.alarms import AlarmBook, Rule, Statistics


@group(
    "alarm",
    examples=(
        ("sopgw alarm ls -c site.yaml", "what stands, the most urgent first, and what to do"),
        ("sopgw alarm shelve A-121 --for 1h --why 'meter is replaced' -c site.yaml", "for a while"),
    ),
)
def alarm() -> None:
    """Alarms: list, acknowledge, shelve, explain, count."""


@alarm.command(
    "ls",
    schema="alarm.ls",
    examples=(
        ("sopgw alarm ls -c site.yaml", "from the running gateway, else from its ledger"),
        ("sopgw alarm ls --offline --json -c site.yaml", "from the ledger alone"),
    ),
)
@site_option
@click.option("--offline", is_flag=True, help="Read the ledger, ask no gateway.")
def ls(*, config_path: Path, offline: bool) -> None:
    """List the alarms that stand, the most urgent first, with what to do."""
    rows, source = _rows(config_path, offline=offline)
    emit({"source": source, "alarms": rows}, text=lambda: table(rows) or "no alarm stands")


@alarm.command(
    "ack",
    schema="alarm.ack",
    impact="rw",
    examples=(
        ("sopgw alarm ack A-121 -c site.yaml", "I have seen it and see to it"),
        ("sopgw alarm ack A-121 --json -c site.yaml", "for a script"),
    ),
)
@ALARM
@site_option
def ack(*, code: str, config_path: Path) -> None:
    """Say that you have seen an alarm; an entry of the ledger says who and when."""
    ask_gateway(config_path, {"verb": "ack", "code": code})
    emit({"code": code, "acknowledged": True}, text=f"{code} acknowledged")


@alarm.command(
    "shelve",
    schema="alarm.shelve",
    impact="rw",
    examples=(
        ("sopgw alarm shelve A-121 --for 1h --why 'meter is replaced' -c site.yaml", "one hour"),
        ("sopgw alarm shelve A-190 --for 8h --why 'fan ordered' --json -c site.yaml", "a shift"),
    ),
)
@ALARM
@click.option("--for", "for_", type=DURATION_MS, required=True, help="At most 24h.")
@click.option("--why", required=True, help="The reason; it stands in the ledger.")
@site_option
def shelve(*, code: str, for_: int, why: str, config_path: Path) -> None:
    """Take an alarm out of sight for a while; never one of priority 1."""
    request = {"verb": "shelve", "code": code, "for_s": for_ // 1000, "reason": why}
    ask_gateway(config_path, request)
    emit(
        {"code": code, "for_s": for_ // 1000, "reason": why},
        text=f"{code} shelved for {for_ // 60_000} min: {why}",
    )


@alarm.command(
    "unshelve",
    schema="alarm.unshelve",
    impact="rw",
    examples=(
        ("sopgw alarm unshelve A-121 -c site.yaml", "back into the list"),
        ("sopgw alarm unshelve A-121 --json -c site.yaml", "for a script"),
    ),
)
@ALARM
@site_option
def unshelve(*, code: str, config_path: Path) -> None:
    """Bring a shelved alarm back; it is to be acknowledged again."""
    ask_gateway(config_path, {"verb": "unshelve", "code": code})
    emit({"code": code}, text=f"{code} is back in the list")


@alarm.command(
    "explain",
    schema="alarm.explain",
    examples=(
        ("sopgw alarm explain A-121 -c site.yaml", "cause, consequence, what to do, in what time"),
        ("sopgw alarm explain --json -c site.yaml", "the whole alarm list"),
    ),
)
@click.argument("code", required=False, shell_complete=alarms)
@site_option
def explain(*, code: str | None, config_path: Path) -> None:
    """Say why an alarm exists, what follows when nobody acts and what to do; all without CODE."""
    rules = _rules(config_path.parent)
    found = [r for r in rules if code is None or r.code == code.upper()]
    if not found:
        known = ", ".join(r.code for r in rules)
        fail(ExitCode.USAGE, f"no alarm “{code}”", code="E002", help=f"one of {known}")
    emit({"alarms": [_rule_data(r) for r in found]},
         text=lambda: "\n\n".join(_rule_text(r) for r in found))  # fmt: skip


@alarm.command(
    "stats",
    schema="alarm.stats",
    examples=(
        ("sopgw alarm stats -c site.yaml", "the last 30 days against what EEMUA 191 aims at"),
        ("sopgw alarm stats --days 7 --json -c site.yaml", "a week, for a script"),
    ),
)
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True)
@site_option
def stats(*, days: int, config_path: Path) -> None:
    """Count the alarms of the last days from the ledger: rate, floods, chattering, standing."""
    from gateway.core.alarms import statistics

    book, rules, now_us = _offline(config_path)
    found = statistics(book, rules, utc_us=now_us, days_count=days)
    emit(_statistics_data(found), text=lambda: _statistics_text(found))


def _rows(config_path: Path, *, offline: bool) -> tuple[list[dict[str, Any]], str]:
    if not offline:
        from gateway.cli.door import door_of

        if door_of(config_path).exists():
            return list(ask_gateway(config_path, {"verb": "alarms"})["alarms"]), "gateway"
    from gateway.config.site_file import load_site
    from gateway.runtime.alarms import rows

    site = load_site(config_path)
    if not offline:
        where = str(site.ledger.dir)
        warn("G007", "no gateway runs here: this is what its ledger says", where=where)
    book, rules, now_us = _offline(config_path, site)
    return rows(book, rules, utc_us=now_us), "ledger"


def _rules(folder: Path) -> Sequence[Rule]:
    from gateway.config.alarm_file import alarm_path, load_alarms

    return load_alarms(alarm_path(folder))


def _offline(config_path: Path, site: Site | None = None) -> tuple[AlarmBook, Sequence[Rule], int]:
    """Fold the ledger; its last entry tells what "now" is when no gateway runs."""
    from gateway.config.site_file import load_site
    from gateway.core.alarms import AlarmBook
    from gateway.journal.ledger_journal import read_entries

    site = site or load_site(config_path)
    book, last_us = AlarmBook(), 0
    for index, entry in read_entries(site.ledger.dir):
        book.take(index, entry)
        last_us = entry["utc_us"]
    return book, _rules(config_path.parent), last_us


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write alarms as lines for people: what, since when, what to do."""
    lines = []
    for row in rows:
        detail = f" ({row['detail']})" if row["detail"] else ""
        lines.append(
            f"{glyph(row)} {row['code']}  {clock(row['since_us'])}  {row['what']}{detail}"
            f"   [{standing(row)}]"
        )
        if row["response"] and row["active"]:
            lines.append(f"     do: {row['response']}")
    return "\n".join(lines)


def glyph(row: Mapping[str, Any]) -> str:
    """Return shape and number of a priority: never colour alone."""
    shape = {1: "■", 2: "▼", 3: "▲", 4: "●"}.get(row["priority_level"], "▲")
    return f"{shape}{row['priority_level']}"


def standing(row: Mapping[str, Any]) -> str:
    """Return the state of an alarm in words."""
    if row["shelved_until_us"] is not None:
        return f"shelved until {clock(row['shelved_until_us'])} by {row['shelved_by']}"
    words = "active" if row["active"] else "cleared"
    return f"{words}, acknowledged" if row["acknowledged"] else f"{words}, NOT acknowledged"


def clock(utc_us: int) -> str:
    """Write an instant as day and time of UTC."""
    import datetime as dt

    return f"{dt.datetime.fromtimestamp(utc_us / 1e6, tz=dt.UTC):%m-%d %H:%M:%S}"


def _rule_data(rule: Rule) -> dict[str, Any]:
    return {
        "code": rule.code, "what": rule.what, "cause": rule.cause,
        "consequence": rule.consequence, "response": rule.response, "respond_s": rule.respond_s,
        "priority_level": rule.priority_level, "delay_ms": rule.delay_ms,
        "clear_delay_ms": rule.clear_delay_ms, "unless": list(rule.unless),
    }  # fmt: skip


def _rule_text(rule: Rule) -> str:
    lines = [
        f"{rule.code}  {rule.what}   priority {rule.priority_level}",
        f"  cause        {rule.cause}",
        f"  consequence  {rule.consequence}",
        f"  response     {rule.response}",
        f"  in time      within {rule.respond_s // 60} min",
        f"  delay        {rule.delay_ms / 1000:g} s to come, "
        f"{rule.clear_delay_ms / 1000:g} s to go",
    ]
    if rule.unless:
        lines.append(f"  silent       while {', '.join(rule.unless)} stands")
    return "\n".join(lines)


def _statistics_data(found: Statistics) -> dict[str, Any]:
    return {
        "days_count": found.days_count,
        "raised_count": found.raised_count,
        "per_ten_minutes_ratio": found.per_ten_minutes_ratio,
        "peak_count": found.peak_count,
        "flood_count": found.flood_count,
        "by_priority": {str(k): found.by_priority.get(k, 0) for k in (1, 2, 3, 4)},
        "most": [{"code": code, "count": count} for code, count in found.most],
        "chattering": list(found.chattering),
        "long_standing": list(found.long_standing),
    }


def _statistics_text(found: Statistics) -> str:
    from gateway.core.alarms import FLOOD_COUNT, PRIORITY_SHARES_PCT

    def verdict(holds: bool) -> str:  # noqa: FBT001 - a word for a truth
        return "✓" if holds else "✗"

    count = max(1, found.raised_count)
    shares = "  ".join(
        f"{level}: {100 * found.by_priority.get(level, 0) // count} % (aim {aim} %)"
        for level, aim in PRIORITY_SHARES_PCT.items()
    )
    most = ", ".join(f"{code} {n}×" for code, n in found.most) or "none"
    chattering = ", ".join(found.chattering) or "none"
    standing_long = ", ".join(found.long_standing) or "none"
    lines = [
        f"{found.raised_count} alarms in {found.days_count} days",
        f"  mean in 10 min    {found.per_ten_minutes_ratio:<8g} aim ≤ 1     "
        f"{verdict(found.per_ten_minutes_ratio <= 1)}",
        f"  most in 10 min    {found.peak_count:<8} aim ≤ {FLOOD_COUNT}    "
        f"{verdict(found.peak_count <= FLOOD_COUNT)}",
        f"  in floods         {found.flood_count}",
        f"  by priority       {shares}",
        f"  most frequent     {most}",
        f"  chattering        {chattering}" + ("  → a longer delay" if found.chattering else ""),
        f"  over 24 h         {standing_long}",
    ]
    return "\n".join(lines)
