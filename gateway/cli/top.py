"""``sopgw top``: the live view in a terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gateway.cli.output import ExitCode, command, emit, fail, site_option
from gateway.cli.quantities import DURATION_MS


@command(
    "top",
    schema="top",
    examples=(
        ("sopgw top -c site.yaml", "diagram, powers, PQ, trades, alarms, ledger; q ends"),
        ("ssh -t edge sopgw top", "from elsewhere; 80×24 and 16 colours are enough"),
    ),
)
@site_option
@click.option("--every", type=DURATION_MS, default="1s", show_default=True)
@click.option("--plain", is_flag=True, help="No Braille dots: plots in plain ASCII.")
def top(*, config_path: Path, every: int, plain: bool) -> None:
    """Show the running gateway, live; acknowledges and shelves alarms, commands nothing."""
    try:
        import textual as _textual  # noqa: F401 - an extra: is it there?
    except ImportError:
        fail(
            ExitCode.USAGE,
            "the live view needs the extra `tui`",
            code="G010",
            help="pip install 'sop-gateway[tui]'; `sopgw status --watch` needs nothing",
        )
    from gateway.cli.output import current

    if current().json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        fail(
            ExitCode.USAGE,
            "the live view needs a terminal",
            code="G011",
            help="`sopgw status --watch` writes plain text, `sopgw status --json` one object",
        )
    from gateway.cli.door import door_of
    from gateway.cli.top_app import TopApp
    from gateway.runtime.control import ask

    path = door_of(config_path)
    app = TopApp(ask=lambda request: ask(path, request), every_s=every / 1000, plain=plain)
    app.run()
    emit({"site": str(config_path)})
