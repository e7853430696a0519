"""``sopgw scan mqtt``: what is said on a broker, by topic; publishes nothing."""

from __future__ import annotations

import click

from gateway.cli.output import ExitCode, Finding, command, emit, say
from gateway.cli.where import seconds


@command(
    "mqtt",
    impact="ro",
    schema="scan.mqtt",
    examples=(
        ("sopgw scan mqtt 192.168.10.5 --topic 'p2p/#'", "which trades come by"),
        ("sopgw scan mqtt broker.example:1883 --listen 30s --json", "for a script"),
    ),
)
@click.argument("where")
@click.option("--topic", default="#", show_default=True, help="What to listen to.")
@click.option("--listen", default="10s", show_default=True, help="For how long.")
def mqtt(*, where: str, topic: str, listen: str) -> None:
    """Listen to a broker for a while: topics, counts, stored messages."""
    import asyncio

    from gateway.market.listening import hear
    from gateway.market.mqtt import broker_from

    url = where if "://" in where else f"mqtt://{where}"
    say(f"Listening to {topic} on {url} for {listen}   [read-only]")
    found = asyncio.run(hear(broker_from(url), topic, listen_s=seconds(listen)))
    rows = [
        {"topic": h.topic, "count": h.count, "retained": h.retained, "size": h.size} for h in found
    ]
    lines = [f" {'messages':>8}  {'bytes':>6}  {'stored':<6}  topic"]
    lines += [
        f" {h.count:>8}  {h.size:>6}  {'yes' if h.retained else '':<6}  {h.topic}" for h in found
    ]
    finding = Finding(
        code="E004", message="nothing was said", help="listen longer, or to another topic"
    )
    emit(
        {"topics": rows},
        text="\n".join(lines) if rows else "",
        exit_code=ExitCode.OK if rows else ExitCode.UNDECIDED,
        findings=() if rows else (finding,),
    )
