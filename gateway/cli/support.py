"""``sopgw support``: a bundle for a maintainer, listed and redacted before it is written."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.output import ExitCode, Finding, emit, fail, group, say, site_option


@group(
    "support",
    examples=(
        ("sopgw support bundle -c site.yaml", "lists what would be in it"),
        ("sopgw support bundle -o elm.zip --yes -c site.yaml", "writes it"),
    ),
)
def support() -> None:
    """Bundle for a maintainer, secrets left out."""


@support.command(
    "bundle",
    schema="support.bundle",
    examples=(
        ("sopgw support bundle -o elm.zip --yes -c site.yaml", "list it, then write it"),
        ("sopgw support bundle --hide-addresses --log gateway.log --yes", "no IP address in it"),
    ),
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("sopgw-support.zip"),
    show_default=True,
)
@click.option(
    "--log",
    "logs",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A log file to add; redacted like the rest.",
)
@click.option("--hide-addresses", is_flag=True, help="Write <host-1> for an IP address.")
@click.option("-y", "--yes", is_flag=True, help="Write it without asking.")
@site_option
def bundle(
    *, output: Path, logs: tuple[Path, ...], hide_addresses: bool, yes: bool, config_path: Path
) -> None:
    """List what a maintainer would get and what was taken out; write it once that is agreed.

    Trades and readings stay here: of the ledger only its size, checkpoint and what was no trade.
    """
    from gateway.cli import support_parts

    if output.exists():
        fail(ExitCode.REFUSED, f"{output} exists", code="B010", help="choose another with -o")
    parts, redactor = support_parts.collect(config_path, logs=logs, hide_addresses=hide_addresses)
    rows = [{"name": p.name, "bytes": len(p.text.encode()), "what": p.what} for p in parts]
    taken = [{"what": what, "count": count} for what, count in sorted(redactor.counts.items())]
    lines = [f"  {r['name']:<16} {r['bytes']:>9}  {r['what']}" for r in rows]
    lines.append(
        "Taken out: " + (", ".join(f"{t['count']} {t['what']}" for t in taken) or "nothing")
    )
    data = {"file": str(output), "written": False, "parts": rows, "redacted": taken}
    if not yes and sys.stdin.isatty():
        say("\n".join(lines))
        lines = []
        yes = click.confirm(f"Write {output}?", err=True)
    if not yes:
        emit(
            data,
            text="\n".join([*lines, "nothing was written: --yes writes it"]),
            exit_code=ExitCode.UNCONFIRMED,
            findings=[Finding(code="B011", message="nothing was written", help="--yes")],
        )
    leaking = support_parts.write(output, parts, redactor)
    if leaking:
        fail(
            ExitCode.REFUSED,
            f"a secret would be in it: {'; '.join(leaking)}",
            code="B012",
            help="nothing was written; take that log out, or mend the secret",
        )
    emit(data | {"written": True}, text="\n".join([*lines, f"{output} written, mode 0600"]))
