"""Command groups of sopgw, one file each, imported only when used.

A module ``gateway/cli/<name>.py`` appears as ``sopgw <name>`` by existing. It exposes a click
command or group of that name; where the name is taken (by Python or by the module itself) the same
name with an underscore.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping

import click

from gateway.cli.output import SopGroup, group

if sys.version_info >= (3, 12):
    from typing import override
else:
    from typing_extensions import override

_HERE = os.path.dirname(__file__)

# name -> (impact, what it does); the order is that of the help page.
COMMANDS: Mapping[str, tuple[str, str]] = {
    "stop": ("hw", "Bring a SOP to zero; never asks."),
    "demo": ("ro", "Simulated site, trades, delivery, verified ledger."),
    "init": ("rw", "Write a commented site file to begin with."),
    "run": ("hw", "The service."),
    "status": ("ro", "One page of what goes on."),
    "top": ("ro", "Live view in the terminal."),
    "doctor": ("ro", "Is everything ready? Each line has a fix."),
    "mode": ("hw", "Show or set the operator's mode."),
    "arm": ("hw", "Allow power again after a fail-safe."),
    "limits": ("hw", "Show limits; change them, two engineers together."),
    "apply": ("hw", "Carry out a plan that a command printed."),
    "plan": ("ro", "List and show plans."),
    "config": ("ro", "Check and show the site file."),
    "profile": ("ro", "Device profiles: list, check, test, match, make."),
    "scan": ("ro", "Find devices; never writes."),
    "device": ("rw", "Add, identify and trust devices."),
    "point": ("hw", "Read, decode and set single values."),
    "check": ("hw", "Signs, scales, wiring, clock, network."),
    "test": ("hw", "Signals, interlocks, steps, watchdog, emergency stop."),
    "sat": ("hw", "Site acceptance: plan, run, sign, report."),
    "trade": ("rw", "Sign, submit, follow and explain trades."),
    "relay": ("ro", "Region agents on a broker speak to a market node."),
    "instr": ("ro", "Instructions and what became of them."),
    "alarm": ("rw", "Alarms: list, acknowledge, shelve, explain."),
    "account": ("rw", "People who may log in to the page."),
    "export": ("rw", "Readings and settlements as CSV or Parquet."),
    "replay": ("ro", "Recompute every decision from a ledger."),
    "backup": ("rw", "Back up and restore the state."),
    "support": ("ro", "Bundle for a maintainer, secrets left out."),
    "bench": ("ro", "Simulated benches."),
    "errors": ("ro", "Explain an error code."),
    "completion": ("ro", "Completion for bash, zsh and fish."),
    "man": ("ro", "Manual pages."),
    "version": ("ro", "Versions of the parts."),
}


class RootGroup(SopGroup):
    """The top of the command line: knows the names, imports the modules on use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        there = {entry.partition(".")[0] for entry in os.listdir(_HERE)}
        return [name for name in COMMANDS if name in there]

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"gateway.cli.{cmd_name}")
        found = getattr(module, f"{cmd_name}_", None) or getattr(module, cmd_name, None)
        if not isinstance(found, click.Command):
            raise click.ClickException(f"gateway/cli/{cmd_name}.py exposes no command `{cmd_name}`")
        return found

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, "[{}] {}".format(*COMMANDS[name])) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        from importlib.metadata import version

        click.echo(f"sopgw {version('sop-gateway')}")
        ctx.exit()


@group(
    "sopgw",
    cls=RootGroup,
    examples=(
        ("sopgw demo", "a simulated site delivers trades, about a minute"),
        ("sopgw config check site.yaml", "every mistake of a site file at once"),
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and end.",
)
def cli() -> None:
    """Gateway between a local electricity market and a soft open point.

    Impact of a command: [ro] reads only, [rw] changes the gateway's own files, [hw] can move power.
    Exit codes: `sopgw errors show exit-codes`.
    """
