"""Names that Tab completes: devices, terminals, plans and alarms, found in the lines of files.

A Tab press may not wait until YAML and its shapes are loaded. Keys are found by their indentation,
as people lay these files out; what is laid out otherwise is not completed, and that is all.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gateway.cli.output import DEFAULT_SITE

_KEY = re.compile(r"( *)([\w.-]+) *:")
_LEDGER = re.compile(  # in braces on one line, or a key a line
    r"^ledger: *(?:\{[^\n}]*?|(?:#.*)?\n(?: .*\n|#.*\n|\n)*? +)\bdir: *['\"]?([^\s,}'\"]+)",
    re.MULTILINE,
)
FILE_BYTES_MAX = 1 << 20


def keys_under(text: str, *path: str) -> Iterator[str]:
    """Yield the keys of the block maps at a path; ``*`` stands for any key on the way."""
    way: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = _KEY.match(line)
        if found is None:
            continue
        depth = len(found[1])
        while way and way[-1][0] >= depth:
            way.pop()
        if len(way) == len(path) and all(
            wanted in ("*", key) for wanted, (_, key) in zip(path, way, strict=True)
        ):
            yield found[2]
        way.append((depth, found[2]))


def _site_file(context: click.Context) -> Path:
    given = context.params.get("config_path") or os.environ.get("SOPGW_CONFIG")
    return Path(given or DEFAULT_SITE)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return stream.read(FILE_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""


def devices(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a device of the site file."""
    found = keys_under(_text(_site_file(context)), "devices")
    return [name for name in found if name.startswith(incomplete)]


def terminals(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a terminal of the site file."""
    found = keys_under(_text(_site_file(context)), "sops", "*", "terminals")
    return [name for name in dict.fromkeys(found) if name.startswith(incomplete)]


def plans(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a plan that waits, beside the site's ledger."""
    site = _site_file(context)
    ledger = _LEDGER.search(_text(site))
    if ledger is None:
        return []
    folder = (site.parent / ledger[1]).parent / "plans"
    return sorted(p.stem for p in folder.glob("p-*.json") if p.stem.startswith(incomplete))


def alarms(context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the code of an alarm: of the list beside the site file, else of the shipped one."""
    tree = Path(__file__).resolve().parents[2] / "configs" / "alarms.yaml"
    installed = Path(sys.prefix) / "share" / "sopgw" / "alarms.yaml"
    there = (_site_file(context).with_name("alarms.yaml"), tree, installed)
    file = next((path for path in there if path.is_file()), installed)
    return [c for c in keys_under(_text(file), "alarms") if c.startswith(incomplete.upper())]


DEVICE = click.argument("device", shell_complete=devices)
TERMINAL = click.argument("terminal", shell_complete=terminals)
PLAN = click.argument("plan_id", shell_complete=plans)
ALARM = click.argument("code", shell_complete=alarms)
