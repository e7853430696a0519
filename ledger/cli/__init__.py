"""Command line of the ledger: one file a group, imported only when used."""

from __future__ import annotations

from importlib import import_module

import click
from typing_extensions import override

from ledger.cli.output import ExampleGroup

COMMANDS = {
    "init": ("ledger.cli.write:init", "Make a ledger and its key."),
    "append": ("ledger.cli.write:append", "Append entries from a file of JSON lines."),
    "log": ("ledger.cli.read:log", "List entries."),
    "show": ("ledger.cli.read:show", "Show one entry."),
    "stats": ("ledger.cli.read:stats", "Size, growth and state of a ledger."),
    "checkpoint": ("ledger.cli.read:checkpoint", "Print the last signed checkpoint."),
    "prove": ("ledger.cli.prove:prove", "Write a C2SP proof of one entry."),
    "verify": ("ledger.cli.verify:verify", "Verify every byte of a ledger."),
    "audit": ("ledger.cli.audit:audit", "Prove the gateway's rules from the ledger alone."),
    "export": ("ledger.cli.export:export", "Write a plain tlog-tiles tree, or a bundle."),
    "bundle": ("ledger.cli.export:bundle_group", "Check a bundle of entries."),
    "prune": ("ledger.cli.export:prune", "Remove old bodies after export."),
    "rebuild": ("ledger.cli.export:rebuild", "Build tiles, checkpoint file and index again."),
    "receipt": ("ledger.cli.receipt:receipt", "Check the receipt of a trade."),
    "key": ("ledger.cli.key:key", "Show and change keys."),
    "witness": (
        "ledger.cli.witness:witness",
        "Witness others' ledgers, or have this one witnessed.",
    ),
    "timestamp": ("ledger.cli.timestamp:timestamp_group", "Have checkpoints stamped (RFC 3161)."),
    "settle": ("ledger.cli.settle:settle", "Settle a round of trades by a contract."),
    "node": ("ledger.cli.node:node", "Run a node that countersigns a market."),
    "round": ("ledger.cli.round:round_", "Join a market, open rounds, offer, report deliveries."),
}


class LazyGroup(ExampleGroup):
    """A group that imports a command's file when the command is asked for."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = COMMANDS.get(cmd_name)
        if found is None:
            return None
        module, name = found[0].split(":")
        command = getattr(import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{found[0]} is not a command")
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def sopledger() -> None:
    """Keep, prove and verify an append-only signed ledger."""


sopledger.examples = (
    "sopledger init ledger --origin bench4.example/SOP-1",
    "sopledger verify ledger --key ledger.vkey",
)
