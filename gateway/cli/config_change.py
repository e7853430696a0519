"""``sopgw config diff | fmt | migrate``: compare and tidy site files; part of ``sopgw config``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from gateway.cli.output import ExitCode, Finding, command, emit, fail, site_option
from gateway.cli.site_edit import write_whole

VERSION = 1


@command(
    "diff",
    schema="config.diff",
    examples=(
        ("sopgw config diff new.yaml -c site.yaml", "two site files, by what they mean"),
        ("sopgw config diff -c site.yaml", "the file against what the service decides with"),
    ),
)
@click.argument("other", required=False, type=click.Path(path_type=Path, dir_okay=False))
@site_option
def diff(*, other: Path | None, config_path: Path) -> None:
    """Compare site files by the values in force; exit 1 when they differ.

    Without a second file: against the newest ``config`` entry of the ledger, which says what the
    service decides with.
    """
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    if other is not None:
        before, after = flat(site.effective), flat(load_site(other).effective)
        names = (str(config_path), str(other))
    else:
        before, after = _running(site)
        names = ("ledger", str(config_path))
    rows = [
        {"key": key, "before": before.get(key), "after": after.get(key)}
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]
    lines = [f"{r['key']}: {_said(r['before'])} → {_said(r['after'])}" for r in rows]
    lines.append(f"{len(rows)} values differ between {names[0]} and {names[1]}")
    finding = Finding(code="C090", message=lines[-1], help="restart the service to use the file")
    emit(
        {"before": names[0], "after": names[1], "differences": rows},
        text="\n".join(lines),
        exit_code=ExitCode.FAILED if rows else ExitCode.OK,
        findings=[finding] if rows else (),
    )


def _said(value: Any) -> str:
    return "–" if value is None else str(value)


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Lay a tree of values out, one a line: ``sops.SOP-1.terminals.T2.s_va``."""
    return dict(_leaves(value, at))


def _leaves(value: Any, at: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple) and value:
        for number, inner in enumerate(value):
            named = isinstance(inner, Mapping)
            name = inner.get("id") or inner.get("name") if named else None
            yield from _leaves(inner, f"{at}.{name or number}")
    else:
        yield at, value


def _running(site: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the ledger's newest ``config`` entry says, and what this file would."""
    from gateway.config.core_site import config_fields, core_site
    from gateway.journal.ledger_journal import read_entries

    newest: Mapping[str, Any] | None = None
    if site.ledger.dir.is_dir():
        for _index, entry in read_entries(site.ledger.dir):
            if entry["kind"] == "config":
                newest = entry
    if newest is None:
        fail(
            ExitCode.UNDECIDED,
            f"no configuration was ever recorded in {site.ledger.dir}",
            code="C091",
            help="start the service once, or name a second file",
        )
    before = flat(newest["config"])
    sops = {c.sop.id: c for c in site.sops}
    config = sops.get(str(newest["config"].get("sop")), site.sops[0])
    after = flat(config_fields(site, core_site(site, config), b""))
    before.pop("answer_key", None)
    after.pop("answer_key", None)
    before["mode"] = str(newest.get("mode", before.get("mode")))
    # Devices, profiles and paces are in the hash alone: `config diff A B` names them.
    before["sha256"], after["sha256"] = newest["sha256"], site.sha256
    return before, after


@command(
    "fmt",
    schema="config.fmt",
    impact="rw",
    examples=(
        ("sopgw config fmt site.yaml", "show what would change"),
        ("sopgw config fmt site.yaml --write", "write it; the old one becomes site.yaml.bak"),
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--write", is_flag=True, help="Write the file; the old one is kept as .bak.")
@click.option("--check", is_flag=True, help="Exit 1 when the file is not in its usual form.")
@site_option
def fmt(*, file: Path | None, write: bool, check: bool, config_path: Path) -> None:
    """Bring a site file into its usual form; comments and meaning stay."""
    from gateway.cli.config_text import formatted
    from gateway.config.site_file import load_site, site_from_text
    from gateway.config.site_shape import SiteShape

    path = file or config_path
    site = load_site(path)
    before = path.read_text(encoding="utf-8")
    after = formatted(before, tuple(SiteShape.model_fields))
    _document, same = site_from_text(after, path=path)
    assert same is not None, "blanks and order carry no meaning"
    assert same.sha256 == site.sha256, "blanks and order carry no meaning"
    changed = after != before
    shown = "".join(
        difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), "before", "after"
        )
    )
    if changed and write:
        replace_keeping(path, after)
    data = {"file": str(path), "changed": changed, "written": changed and write, "diff": shown}
    emit(
        data,
        text=shown.rstrip("\n") if changed else f"{path} is in its usual form",
        exit_code=ExitCode.FAILED if changed and check and not write else ExitCode.OK,
        findings=[Finding(code="C092", message="not in its usual form", help="--write")]
        if changed and check and not write
        else (),
    )


def replace_keeping(path: Path, text: str) -> None:
    """Write a file whole; what stood there is kept beside it as ``.bak``."""
    backup = path.with_name(path.name + ".bak")
    backup.unlink(missing_ok=True)
    backup.hardlink_to(path)
    write_whole(path, text)


@command(
    "migrate",
    schema="config.migrate",
    impact="rw",
    examples=(
        ("sopgw config migrate site.yaml", "is this file of the present version?"),
        ("sopgw config migrate --json -c site.yaml", "the same for a script"),
    ),
)
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@site_option
def migrate(*, file: Path | None, config_path: Path) -> None:
    """Bring a site file to the present version; there has been one so far."""
    from gateway.config.yaml_reader import read_file

    path = file or config_path
    document = read_file(path, prefix="C")
    document.raise_if_failed()
    node = document.root.get("version") if document.root is not None else None
    found = node.value if node is not None else None
    if found != VERSION:
        newer = isinstance(found, int) and found > VERSION
        fail(
            ExitCode.CONFIG,
            f"{path} says version {found}; this program knows version {VERSION}",
            code="C093",
            where=f"{path}:{node.line}:{node.column}" if node is not None else str(path),
            help="install the program that wrote it" if newer else f"write `version: {VERSION}`",
        )
    emit(
        {"file": str(path), "from": found, "to": VERSION, "changed": False},
        text=f"{path} is of version {VERSION}, the present one: nothing to do",
    )
