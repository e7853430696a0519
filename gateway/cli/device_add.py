"""``sopgw device add``: one more device in the site file, shown before it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, command, fail, site_option
from gateway.cli.scan_answer import last_scan
from gateway.cli.site_edit import propose, refuse_new_problems, text_of

if TYPE_CHECKING:
    from gateway.config.yaml_reader import Document


@command(
    "add",
    impact="rw",
    schema="device.add",
    examples=(
        ("sopgw device add m5 --from scan:4 -c site.yaml", "what the last scan found; shows it"),
        ("sopgw device add m5 --url modbus+tcp://192.168.10.34 --profile abb-b23 --yes", "do it"),
    ),
)
@click.argument("name")
@click.option(
    "--from", "source", default="", metavar="scan:N", help="Number N of the last scan, or FILE:N."
)
@click.option("--url", default="", help="Where the device is.")
@click.option("--profile", "profile_name", default="", help="Name or file of its profile.")
@click.option("--unit", type=click.IntRange(0, 255), help="Modbus unit.")
@click.option("--yes", is_flag=True, help="Write it; without, the change is shown only.")
@site_option
def add(
    *,
    name: str,
    source: str,
    url: str,
    profile_name: str,
    unit: int | None,
    yes: bool,
    config_path: Path,
) -> None:
    """Add a device to the site file; the change is shown, and written with --yes."""
    from gateway.config.profile_file import load_profile

    if bool(source) == bool(url):
        raise click.UsageError("give either --url or --from scan:N")
    found = _scanned(source) if source else {"url": url}
    profile_name = profile_name or str(found.get("profile", ""))
    if not profile_name:
        raise click.UsageError("which profile? add --profile NAME (`sopgw profile match` asks)")
    folders = (config_path.parent, config_path.parent / "profiles")
    profile = load_profile(profile_name, folders, beside=folders)
    asked = unit if unit is not None else found.get("unit")
    row: dict[str, Any] = {"profile": profile_name, "url": str(found["url"])}
    if profile.protocol == "modbus":
        row["unit"] = profile.modbus.unit if asked is None else asked
    before = text_of(config_path)
    propose(
        {"name": name, **row, "unit": row.get("unit", 0)},
        before=before,
        after=_with(before, name, row, config_path),
        path=config_path,
        write=yes,
    )


def _scanned(source: str) -> dict[str, Any]:
    """The row that ``scan:N`` names in the last scan, ``FILE:N`` in a saved one."""
    file, _, number = source.rpartition(":")
    if not file or not number.isdigit():
        raise click.UsageError(f"{source!r} is neither scan:N nor FILE:N, like scan.json:4")
    path = last_scan() if file == "scan" else Path(file)
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["found"]
        return next(dict(row) for row in rows if row["number"] == int(number))
    except StopIteration:
        raise click.UsageError(f"{file} has no number {number}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        scan_first = "sopgw scan all" if file == "scan" else f"sopgw scan … --save {file}"
        raise click.UsageError(f"{path} is no saved scan ({error}); {scan_first}") from None


def _with(text: str, name: str, row: dict[str, Any], path: Path) -> str:
    """The site file with one more device, before the first; every other byte stays."""
    from gateway.config.yaml_reader import read_text

    document = read_text(text, file=str(path), prefix="C")
    line, column = _place(document, path)
    known = document.root.get("devices") if document.root else None
    if known is not None and known.key(name) is not None:
        fail(
            ExitCode.REFUSED,
            f"there is a device {name} in {path}",
            code="E005",
            help="take another name, or change it in the file",
        )
    body = f'{{profile: {row["profile"]}, url: "{row["url"]}"'
    body += f", unit: {row['unit']}}}" if "unit" in row else "}"
    lines = text.splitlines(keepends=True)
    lines.insert(line - 1, f"{' ' * (column - 1)}{name}: {body}\n")
    after = "".join(lines)
    refuse_new_problems(text, after, path)
    return after


def _place(document: Document, path: Path) -> tuple[int, int]:
    """Line and column of the first device."""
    devices = document.root.get("devices") if document.root is not None else None
    key = document.root.key("devices") if document.root is not None else None
    if key is not None and devices is not None and devices.kind == "scalar" and not devices.text:
        return key.line + 1, key.column + 2  # as `sopgw init` leaves it: none yet
    if devices is None or devices.kind != "map" or not devices.entries:
        fail(ExitCode.CONFIG, f"{path} has no `devices:`", code="C000", help="sopgw init makes one")
    first = devices.entries[0][0]
    head = document.lines[first.line - 1][: first.column - 1] if document.lines else ""
    if head.strip():
        fail(
            ExitCode.CONFIG,
            f"the devices of {path} stand in one line",
            code="C000",
            help="write each device on a line of its own",
        )
    return first.line, first.column
