"""``sopledger settle``: run a contract on a file and print what every node would compute.

Standard output carries one JSON object, also when the file is refused; nothing is settled by
halves.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from ledger.contracts.document import DocumentRefused, parse

EXIT_INVALID = 3
FILE_BYTES_MAX = 64 * 1024 * 1024
"""A week of a thousand users fits; anything larger is not a round."""


def refuse(schema: str, mistakes: list[dict[str, str]], *, code: int = EXIT_INVALID) -> NoReturn:
    """Print the refusal as one object and stop with its exit code."""
    click.echo(
        json.dumps({"schema": schema, "ok": False, "exit_code": code, "errors": mistakes}, indent=1)
    )
    for mistake in mistakes:
        click.echo(f"{mistake['path']}: {mistake['message']}", err=True)
    raise SystemExit(code)


def run_contract(schema: str, file: Path, contract: Callable[[Any], dict[str, Any]]) -> None:
    """Read, run, print: every mistake of a refused file comes with its path."""
    with file.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        refuse(schema, [{"path": "$", "message": f"larger than {FILE_BYTES_MAX} bytes"}])
    try:
        result = contract(parse(data))
    except DocumentRefused as refused:
        mistakes = [{"path": m.path, "message": m.message} for m in refused.mistakes]
        refuse(schema, mistakes)
    click.echo(json.dumps({"schema": schema, "ok": True, "exit_code": 0, **result}, indent=1))


def file_argument() -> Callable[[Any], Any]:
    """The file every contract reads, and the option every command has."""
    from pathlib import Path

    def decorate(command: Any) -> Any:
        command = click.argument(
            "file", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
        )(command)
        return click.option("--json", "as_json", is_flag=True, help="JSON, which it always is.")(
            command
        )

    return decorate


@click.group()
def settle() -> None:
    """Run a market contract on a file: hco between terminals, requests inside a region.

    \b
    Examples:
      sopledger settle hco configs/rounds/four-terminals.json
      sopledger settle requests configs/rounds/six-suppliers-five-users.json --method exact
    """  # noqa: D301 - click needs the control character itself


@settle.command()
@file_argument()
def hco(file: Path, as_json: bool) -> None:  # noqa: ARG001, FBT001 - click passes options by name
    """Choose the levels of a round by the highest combined offer and share the surplus.

    \b
    Examples:
      sopledger settle hco configs/rounds/four-terminals.json
      sopledger settle hco round.json | jq .digest
    """  # noqa: D301
    from ledger.contracts.hco_document import round_from
    from ledger.contracts.hco_settlement import outcome

    run_contract("sopledger/v1/settle.hco", file, lambda value: outcome(round_from(value)))
