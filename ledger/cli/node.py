"""``sopledger node``: run a node of the market network, make its key, ask how it stands."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.arguments import tls_given, tls_option
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, Remark, command
from ledger.contracts.document import DocumentRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from ledger.network.config import NodeConfig
    from ledger.network.node import Node


def url_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --node and --tls."""
    url = click.option(
        "--node",
        "url",
        default="http://127.0.0.1:8470",
        show_default=True,
        metavar="URL",
        help="the node's door",
    )
    return url(tls_option(function))


def utc_ms() -> int:
    """UTC of this machine."""
    return time.time_ns() // 1_000_000


def bench_ms(timebase: Path) -> Callable[[], int]:
    """UTC of a bench whose time runs faster than real: the file sopsim and sopgw share."""
    try:
        fields = json.loads(timebase.read_bytes())
        epoch_ns, factor = int(fields["epoch_ns"]), int(fields["factor"])
        utc_epoch_us = int(fields["utc_epoch_us"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{timebase}: not a time base file ({error})"
        raise Failure(ExitCode.INPUT, "timebase", message) from None
    return lambda: (utc_epoch_us + (time.monotonic_ns() - epoch_ns) * factor // 1000) // 1000


def read_config(path: Path) -> NodeConfig:
    """Read a node file; every mistake ends the command together."""
    from ledger.network.config import load

    try:
        return load(path)
    except DocumentRefused as refused:
        lines = "; ".join(f"{m.path}: {m.message}" for m in refused.mistakes)
        raise Failure(ExitCode.INPUT, "node-file", lines) from None


async def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, dict[str, Any]]:
    """One request to a node's door."""
    import aiohttp

    from ledger.network.tls import session as calling

    try:
        async with (
            calling(tls_given(), total_s=40) as session,
            session.request(method, url, data=body) as response,
        ):
            answer: dict[str, Any] = await response.json(content_type=None)
            return response.status, answer
    except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as error:
        raise Failure(
            ExitCode.UNREACHABLE, "node-away", f"{url}: {type(error).__name__}: {error}",
            "sopledger node run -c FILE starts one",
        ) from None  # fmt: skip


def fetch(url: str) -> dict[str, Any]:
    """Read something from a node; ends the command when it is not there."""
    status, answer = asyncio.run(ask("GET", url))
    if status != 200:
        message = "; ".join(error["message"] for error in answer.get("errors", []))
        raise Failure(ExitCode.BAD, "not-there", message or f"{url}: {status}")
    return answer


def tell_started(environment: Mapping[str, str], status: str) -> None:
    """Tell systemd that the node is up, where it wants to know (``Type=notify``)."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, suppress(OSError):
        place = "\0" + address[1:] if address.startswith("@") else address
        manager.sendto(f"READY=1\nSTATUS={status}".encode(), place)


@click.group(cls=ExampleGroup)
def node() -> None:
    """Run and ask nodes that countersign a market."""


@command(
    "run",
    "sopledger node run -c node.yaml",
    "sopledger node run -c configs/rounds/node.yaml --json",
)
@click.option(
    "-c",
    "--config",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="node file",
)
@click.option(
    "--timebase",
    default=None,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="simulated time shared with sopsim and sopgw, for a bench",
)
def run(file: Path, timebase: Path | None) -> Answer:
    """Run a node until it is stopped; its door's address is the first line on stderr."""
    from ledger.log.keys import KeyFileError
    from ledger.log.segment import LedgerCorrupt
    from ledger.log.writer import LedgerBusy, LedgerFailed, LedgerFull
    from ledger.network.record import ReplayDiffers
    from ledger.network.service import KeyDiffers, serve

    config = read_config(file)
    clock = utc_ms if timebase is None else bench_ms(timebase)

    def ready(port: int, running: Node) -> None:
        height = running.replica.height
        scheme = "http" if config.tls is None else "https"
        click.echo(
            f"node {config.node} at {scheme}://{config.host}:{port} height {height}", err=True
        )
        tell_started(os.environ, f"height {height} at port {port}")

    try:
        reason = asyncio.run(serve(config, utc_ms=clock, ready=ready))
    except KeyboardInterrupt:
        return Answer(lines=("stopped",))
    except (KeyFileError, KeyDiffers) as error:
        raise Failure(ExitCode.INPUT, "key-file", str(error)) from None
    except ssl.SSLError as error:
        raise Failure(ExitCode.INPUT, "tls", f"{file}: {error}") from None
    except LedgerBusy as error:
        raise Failure(ExitCode.BUSY, "ledger-busy", str(error)) from None
    except LedgerFull as error:
        raise Failure(
            ExitCode.REFUSED, "ledger", str(error), "make room, then start again"
        ) from None
    except (LedgerCorrupt, LedgerFailed, ReplayDiffers) as error:
        raise Failure(ExitCode.VERIFICATION, "ledger", str(error)) from None
    except OSError as error:
        raise Failure(ExitCode.UNREACHABLE, "listen", str(error)) from None
    remark = Remark(
        code="halted", message=reason, help="people decide: compare the nodes' evidence"
    )
    return Answer(errors=(remark,), exit_code=ExitCode.BAD)


@command(
    "keygen",
    "sopledger node keygen node.key --name n1",
    "sopledger node keygen region-a.key --name region-a --json",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="whose key it is")
def keygen(file: Path, name: str) -> Answer:
    """Make an Ed25519 key for a node or a party; the public half is the last line."""
    from ledger.log.keys import KeyFileError, create_key
    from ledger.log.note import NoteError

    try:
        signer = create_key(file, name)
    except (KeyFileError, NoteError) as error:
        raise Failure(ExitCode.INPUT, "key-file", str(error)) from None
    public = signer.key.public.hex()
    return Answer(data={"name": name, "public": public}, lines=(f"wrote {file}", public))


@command(
    "status",
    "sopledger node status",
    "sopledger node status --node http://127.0.0.1:8471 --json",
)
@url_option
def status(url: str) -> Answer:
    """Say how far a node is and whether anything stands in its way."""
    found = fetch(url + "/v1/status")
    lines = [
        f"node {found['node']} of market {found['market']}, height {found['height']}",
        f"state {found['state']}",
        f"alarm: {found['alarm'] or 'none'}",
    ]
    lines += [f"evidence: {one['what']} at height {one['height']}" for one in found["evidence"]]
    code = ExitCode.BAD if found["halted"] else ExitCode.DONE
    return Answer(data=found, lines=tuple(lines), exit_code=code)


for _command in (run, keygen, status):
    node.add_command(_command)
node.examples = ("sopledger node keygen n1.key --name n1", "sopledger node run -c node.yaml")
