"""``sopgw device ls`` and ``device rm``: the devices of a site file and what each is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, command, emit, fail, site_option
from gateway.cli.site_edit import propose, refuse_new_problems, text_of

if TYPE_CHECKING:
    from gateway.config.yaml_reader import Node


@command(
    "ls",
    schema="device.ls",
    examples=(
        ("sopgw device ls -c site.yaml", "every device and what it is for"),
        ("sopgw device ls --json -c site.yaml", "the same for a script"),
    ),
)
@site_option
def ls(config_path: Path) -> None:
    """List the devices of the site file and what each is for; asks none of them."""
    root = _root(config_path)
    devices = root.get("devices")
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "profile": node.word("profile") or "",
            "url": node.word("url") or "",
            "unit": _unit(node),
            "used_as": _uses(root, name),
        }
        for name, _key, node in (devices.pairs() if devices is not None else ())
    ]
    widths = [max([len(str(row[k])) for row in rows] or [0]) for k in ("name", "profile", "url")]
    lines = [
        f"{row['name']:<{widths[0]}}  {row['profile']:<{widths[1]}}  {row['url']:<{widths[2]}}"
        f"  {'–' if row['unit'] is None else row['unit']:>4}"
        f"  {', '.join(row['used_as']) or 'not used'}"
        for row in rows
    ]
    emit({"devices": rows}, text="\n".join(lines) or f"{config_path} names no devices yet")


@command(
    "rm",
    impact="rw",
    schema="device.rm",
    examples=(
        ("sopgw device rm m5 -c site.yaml", "shows the change"),
        ("sopgw device rm m5 --yes -c site.yaml", "writes it; refused while it is in use"),
    ),
)
@click.argument("name")
@click.option("--yes", is_flag=True, help="Write it; without, the change is shown only.")
@site_option
def rm(*, name: str, yes: bool, config_path: Path) -> None:
    """Take a device out of the site file; the change is shown, and written with --yes."""
    before = text_of(config_path)
    root = _root(config_path)
    devices = root.get("devices")
    known = [text for text, _, _ in devices.pairs()] if devices is not None else []
    key = devices.key(name) if devices is not None else None
    if key is None:
        there = ", ".join(known) or "none"
        raise click.UsageError(f"{config_path} has no device {name}; there are: {there}")
    if uses := _uses(root, name):
        fail(
            ExitCode.REFUSED,
            f"{name} is in use: {', '.join(uses)}",
            code="D115",
            where=f"{config_path}:{key.line}:{key.column}",
            help="name another device there first",
        )
    after = _without(before, key)
    others = {n: row for n, row in _devices(before, config_path).items() if n != name}
    shares_line = before.splitlines()[key.line - 1][: key.column - 1].strip()
    if shares_line or _devices(after, config_path) != others:
        fail(
            ExitCode.CONFIG,
            f"{name} does not stand on lines of its own",
            code="C000",
            where=f"{config_path}:{key.line}:{key.column}",
            help="take it out by hand, or write each device on a line of its own",
        )
    refuse_new_problems(before, after, config_path)
    propose({"name": name}, before=before, after=after, path=config_path, write=yes)


def _root(path: Path) -> Node:
    from gateway.config.yaml_reader import read_file

    document = read_file(path, prefix="C")
    document.raise_if_failed()
    if document.root is None:
        fail(ExitCode.CONFIG, f"{path} is empty", code="C000", help="sopgw init makes one")
    return document.root


def _devices(text: str, path: Path) -> dict[str, Any]:
    """Return the devices a text names, as plain values."""
    from gateway.config.yaml_reader import read_text

    root = read_text(text, file=str(path), prefix="C").root
    devices = root.get("devices") if root is not None else None
    return {name: node.data() for name, _, node in devices.pairs()} if devices is not None else {}


def _unit(node: Node) -> int | None:
    found = node.get("unit")
    return found.value if found is not None and isinstance(found.value, int) else None


def _uses(root: Node, name: str) -> list[str]:
    """Say where SOPs and their terminals name the device, like ``SOP-1 T2 meter``."""
    sops = root.get("sops")
    found = []
    for sop, _, body in sops.pairs() if sops is not None else ():
        if body.word("station") == name:
            found.append(f"{sop} station")
        terminals = body.get("terminals")
        for terminal, _, row in terminals.pairs() if terminals is not None else ():
            found += [
                f"{sop} {terminal} {role}"
                for role in ("converter", "meter")
                if row.word(role) == name
            ]
    return found


def _without(text: str, key: Node) -> str:
    """Take out the line of a key and the deeper ones under it."""
    lines = text.splitlines(keepends=True)
    end = key.line
    for number, line in enumerate(lines[key.line :], start=key.line + 1):
        depth = len(line) - len(line.lstrip())
        if line.strip() and depth < key.column:
            break
        if line.strip():
            end = number
    return "".join(lines[: key.line - 1] + lines[end:])
