"""``sopgw completion``: the line that makes a shell complete commands."""

from __future__ import annotations

import click

from gateway.cli.output import command, emit

WHERE = {
    "bash": "~/.local/share/bash-completion/completions/sopgw",
    "zsh": "a folder of $fpath, as _sopgw",
    "fish": "~/.config/fish/completions/sopgw.fish",
}


@command(
    "completion",
    schema="completion",
    examples=(
        ('eval "$(sopgw completion bash)"', "complete in this shell"),
        ("sopgw completion fish > ~/.config/fish/completions/sopgw.fish", "for good"),
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from click.shell_completion import get_completion_class

    from gateway.cli.root import cli

    found = get_completion_class(shell)
    assert found is not None, "click knows the three shells"
    script = found(cli, {}, "sopgw", "_SOPGW_COMPLETE").source()
    emit({"shell": shell, "script": script, "where": WHERE[shell]}, text=script)
