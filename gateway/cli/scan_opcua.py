"""``sopgw scan opcua``: who a server says it is, how it may be reached, which nodes it has.

Without our files only the open part of the protocol is used (GetEndpoints), which reads nothing of
the plant. With them (a URL as ``sopgw device trust`` prints it) the nodes of each profile are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import command, say
from gateway.cli.where import seconds

if TYPE_CHECKING:
    from gateway.devices.opcua.discovery import Server
    from gateway.devices.opcua.process import Ask
    from gateway.devices.profile import Profile


@command(
    "opcua",
    impact="ro",
    schema="scan.opcua",
    examples=(
        ("sopgw scan opcua 192.168.10.21 192.168.10.22", "endpoints, security, fingerprints"),
        ("sopgw scan opcua 'opc.tcp://host:4840/?cert=…' --save scan.json", "and the nodes"),
    ),
)
@click.argument("hosts", nargs=-1, required=True)
@click.option("--timeout", default="2s", show_default=True, help="For each answer.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write as JSON.")
@click.option("--match/--no-match", default=True, help="See which profile fits.")
def opcua(
    *,
    hosts: tuple[str, ...],
    timeout: str,
    save: Path | None,
    match: bool,
) -> None:
    """Scan OPC UA servers: endpoints, security, certificates, nodes of the profiles."""
    import asyncio

    from gateway.cli.scan_answer import answer_rows

    urls = [host if "://" in host else f"opc.tcp://{host}:4840" for host in hosts]
    if wrong := [url for url in urls if not url.startswith("opc.tcp://")]:
        raise click.UsageError(f"{wrong[0]} is no OPC UA address")
    say(f"Scanning {len(urls)} OPC UA servers   [read-only]")
    rows = asyncio.run(rows_of(urls, seconds(timeout), match=match))
    answer_rows(rows, save=save)


async def rows_of(urls: list[str], timeout_s: float, *, match: bool) -> list[dict[str, Any]]:
    """Ask each address who it is; a row for each that answers as an OPC UA server would."""
    from gateway.config.profile_file import check_profile, profile_paths
    from gateway.devices.opcua.address import endpoint_of
    from gateway.devices.opcua.discovery import discover, profiles_named
    from gateway.devices.opcua.process import START_TIMEOUT_S, asking
    from gateway.model.errors import DeviceError

    profiles = [p for path in profile_paths() if (p := check_profile(path)[1]) is not None]
    rows: list[dict[str, Any]] = []
    async with asking(timeout_s=START_TIMEOUT_S + 2 * timeout_s) as ask:
        for url in urls:
            try:
                server = await discover(ask, endpoint_of(url), timeout_s=timeout_s)
            except DeviceError:
                continue
            named = profiles_named(server, profiles) if match else []
            fits = "by application URI" if named else ""
            if named and "?" in url:
                fits = await _nodes(ask, url, named[0], timeout_s)
            rows.append(_row(len(rows) + 1, url, server, named, fits))
    return rows


def _row(number: int, url: str, server: Server, named: list[Profile], fits: str) -> dict[str, Any]:
    shown = server.certificate
    said = f"“{server.name}”, {server.application_uri}; "
    said += ", ".join(dict.fromkeys(f"{e.mode}/{e.policy}" for e in server.endpoints))
    if not server.secure:
        said += "; NO ENDPOINT IS ENCRYPTED"
    return {
        "number": number,
        "url": url,
        "unit": 0,
        "said": said,
        "profile": named[0].id if named else "",
        "confidence": fits,
        "sha256": shown.sha256 if shown is not None else "",
        "endpoints": [
            {"url": e.url, "mode": e.mode, "policy": e.policy, "users": list(e.users)}
            for e in server.endpoints
        ],
    }


async def _nodes(ask: Ask, url: str, profile: Profile, timeout_s: float) -> str:
    """How many of a profile's nodes are there and readable; over the signed channel."""
    from gateway.devices.opcua.address import connect_order
    from gateway.devices.opcua.device import node_text
    from gateway.devices.profile import OpcuaSettings
    from gateway.model.errors import ConfigError

    settings = profile.opcua or OpcuaSettings()
    try:
        connected = await ask(connect_order(url, settings, timeout_s=timeout_s))
    except ConfigError as error:
        return str(error)
    if "error" in connected:
        return f"not connected: {connected['what']}"
    points = [p for p in profile.all_points() if p.node is not None and not p.node.method]
    nodes = [node_text(p.node, profile.namespaces) for p in points if p.node is not None]
    found = await ask({"op": "read", "nodes": nodes})
    if "error" in found:
        return str(found["what"])
    there = sum(v["status"].startswith(("Good", "Uncertain")) for v in found["values"])
    return f"{there} of {len(nodes)} nodes"
