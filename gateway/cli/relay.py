"""``sopgw relay``: region agents on a broker speak to a market node through this."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import command, emit, note

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@command(
    "relay",
    examples=(
        (
            "sopgw relay bench4 --broker mqtt://127.0.0.1",
            "to the node at its usual door; stop it with Ctrl-C",
        ),
        (
            "sopgw relay bench4 --broker mqtts://broker.example --node http://127.0.0.1:8471",
            "another node of the market",
        ),
    ),
)
@click.argument("market")
@click.option("--broker", required=True, metavar="URL", help="mqtt://HOST or mqtts://HOST.")
@click.option("--node", default="http://127.0.0.1:8470", show_default=True, metavar="URL")
@click.option("--username", help="Name at the broker.")
@click.option("--password-file", type=FILE)
@click.option("--ca", type=FILE, help="Who may sign the broker's certificate.")
def relay(
    market: str,
    broker: str,
    node: str,
    username: str | None,
    password_file: Path | None,
    ca: Path | None,
) -> None:
    """Carry signed messages of MARKET from a broker to a node, and its answers back.

    A message is acknowledged to the broker only once the node has it final, or refuses it.
    """
    from gateway.market.mqtt import broker_from
    from gateway.market.relay import Relay
    from gateway.model.errors import ContractError

    password = password_file.read_text("utf-8").strip() if password_file else None
    try:
        where = broker_from(broker, username=username, password=password, ca_file=ca)
        carrying = Relay(broker=where, market=market, url=node)
    except (ContractError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    note(f"carrying messages of {market} from {broker} to {node}")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(until_asked(carrying.run()))
    emit({"market": market, "broker": broker, "node": node}, text=f"{market}: carrying ended")


async def until_asked(running: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT, then let go of the broker in order."""
    task = asyncio.ensure_future(running)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
