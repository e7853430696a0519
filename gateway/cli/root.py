"""The program ``sopgw`` as a tree of commands; their modules are imported on use."""

from __future__ import annotations

import importlib

import click
from click.shell_completion import CompletionItem

from gateway.cli import front
from gateway.cli.output import SopGroup, group
from gateway.cli.overriding import override


class RootGroup(SopGroup):
    """The top of the command line: knows the names, imports the modules on use."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return front.present()

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
    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(front.page(formatter.width))

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names from the page, without importing each command for its help."""
        if incomplete and not incomplete[0].isalnum():
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=front.short_help(name))
            for name in front.present()
            if name.startswith(incomplete)
        ]


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        from importlib.metadata import version

        click.echo(f"sopgw {version('sop-gateway')}")
        ctx.exit()


@group(
    "sopgw",
    cls=RootGroup,
    examples=front.EXAMPLES,
    help="\n\n".join(front.ABOUT),
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": front.COLUMNS_MAX,
    },
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help=dict(front.OPTIONS)["--version"],
)
def cli() -> None:
    """Run a command; what the page says stands in ``gateway.cli.front``."""
