"""``sopledger settle``: run a contract on a file and print what every node would compute.

Standard output carries one JSON object, also when the file is refused; nothing is settled by
halves.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.exceptions import Exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

from ledger.cli.output import ExampleCommand, ExampleGroup
from ledger.contracts.document import DocumentRefused, parse

EXIT_INVALID = 3
FILE_BYTES_MAX = 64 * 1024 * 1024
"""A week of a thousand users fits; anything larger is not a round."""


def refuse(schema: str, mistakes: list[dict[str, str]], *, code: int = EXIT_INVALID) -> NoReturn:
    """Print the refusal as one object and stop with its exit code."""
    errors = [{"code": "refused", **mistake} for mistake in mistakes]
    click.echo(
        json.dumps({"schema": schema, "ok": False, "exit_code": code, "errors": errors}, indent=1)
    )
    for mistake in mistakes:
        click.echo(f"{mistake['path']}: {mistake['message']}", err=True)
    raise Exit(code)


def run_contract(schema: str, file: Path, contract: Callable[[Any], dict[str, Any]]) -> None:
    """Read, run, print: every mistake of a refused file comes with its path."""
    from ledger.contracts.exact import NotProven

    with file.open("rb") as stream:
        data = stream.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        refuse(schema, [{"path": "$", "message": f"larger than {FILE_BYTES_MAX} bytes"}])
    try:
        result = contract(parse(data))
    except DocumentRefused as refused:
        mistakes = [{"path": m.path, "message": m.message} for m in refused.mistakes]
        refuse(schema, mistakes)
    except NotProven as missing:
        refuse(schema, [{"path": "$", "message": f"not proven optimal: {missing}"}], code=9)
    except ModuleNotFoundError as missing:
        message = f"{missing}: exact needs the extra, pip install 'sop-gateway[market]'"
        refuse(schema, [{"path": "$", "message": message}], code=2)
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


@click.group(cls=ExampleGroup)
def settle() -> None:
    """Run a market contract on a file: hco between terminals, requests inside a region."""


@settle.command(cls=ExampleCommand)
@file_argument()
@click.option(
    "--html",
    "html_file",
    default=None,
    type=click.Path(dir_okay=False),
    help="also write a page with offers, chosen point, prices and payments",
)
def hco(file: Path, as_json: bool, html_file: str | None) -> None:  # noqa: ARG001, FBT001 - click passes options by name
    """Choose the levels of a round by the highest combined offer and share the surplus."""
    from pathlib import Path

    from ledger.contracts.hco_document import round_from
    from ledger.contracts.hco_settlement import outcome

    def contract(value: Any) -> dict[str, Any]:
        found = outcome(round_from(value))
        if html_file is not None:
            from ledger.cli.round_page import page

            Path(html_file).write_text(page(value, found), encoding="utf-8")
        return found

    run_contract("sopledger/v1/settle.hco", file, contract)


@settle.command(cls=ExampleCommand)
@file_argument()
@click.option(
    "--method",
    type=click.Choice(["request", "mopso", "exact"]),
    default="exact",
    show_default=True,
    help="bare request mechanism, particle swarm, or optimum with certificate",
)
@click.option(
    "--order",
    type=click.Choice(["nearest", "cheapest"]),
    default="nearest",
    show_default=True,
    help="in which order requests visit suppliers; the paper's is nearest",
)
@click.option(
    "--html",
    "html_file",
    default=None,
    type=click.Path(dir_okay=False),
    help="also write a page with offers, chosen flows, prices and payments",
)
def requests(
    file: Path,
    as_json: bool,  # noqa: ARG001, FBT001
    method: str,
    order: str,
    html_file: str | None,
) -> None:
    """Clear a region's day between its suppliers and users."""
    from pathlib import Path

    from ledger.contracts.requests_document import day_from, outcome

    def contract(value: Any) -> dict[str, Any]:
        day = day_from(value)
        found = outcome(day, method, order=order)
        if html_file is not None:
            from ledger.cli.day_page import page

            Path(html_file).write_text(page(day, found), encoding="utf-8")
        return found

    run_contract("sopledger/v1/settle.requests", file, contract)


@settle.command(cls=ExampleCommand)
@file_argument()
@click.option(
    "--out",
    default=None,
    type=click.Path(file_okay=False),
    help="also write each document, or each signed message, to a file of this folder",
)
@click.option(
    "--sign",
    "key_file",
    default=None,
    type=click.Path(exists=True, dir_okay=False),
    help="key with which the documents are signed (sopledger node keygen)",
)
def regions(file: Path, as_json: bool, out: str | None, key_file: str | None) -> None:  # noqa: ARG001, FBT001
    """From several regions' data to a round between them and its settled trade documents."""
    from ledger.contracts.regions_document import regions_from, settled

    def contract(value: Any) -> dict[str, Any]:
        result = settled(regions_from(value))
        if out is not None:
            write_documents(result["documents"], out, key_file)
        return result

    run_contract("sopledger/v1/settle.regions", file, contract)


def write_documents(documents: list[Any], folder: str, key_file: str | None) -> None:
    """Write settled trade documents: as such, or signed in the form the gateway takes."""
    from pathlib import Path

    from ledger.contracts.document import canonical
    from ledger.log.keys import KeyFileError, load_key
    from ledger.network.dsse import envelope

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for document in documents:
        name = document["Schedule_MarketDocument"]["mRID"]
        if key_file is None:
            (target / f"{name}.json").write_bytes(canonical(document))
            continue
        try:
            signer = load_key(Path(key_file), "market")
        except KeyFileError as error:
            refuse("sopledger/v1/settle.regions", [{"path": "--sign", "message": str(error)}])
        signed = envelope(document, signer, signer.key.public)
        (target / f"{name}.dsse.json").write_bytes(canonical(signed))


@settle.command(cls=ExampleCommand)
@click.argument("day", type=click.Path(exists=True, dir_okay=False))
@click.argument("result", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="JSON, which it always is.")
def check(day: str, result: str, as_json: bool) -> None:  # noqa: ARG001, FBT001
    """Check a result of ``requests --method exact`` by its certificate, without a solver."""
    from pathlib import Path

    from ledger.contracts.requests_document import day_from, flaws_of

    schema = "sopledger/v1/settle.check"
    try:
        found = flaws_of(day_from(parse(Path(day).read_bytes())), parse(Path(result).read_bytes()))
    except DocumentRefused as refused:
        refuse(schema, [{"path": m.path, "message": m.message} for m in refused.mistakes])
    if found:
        refuse(schema, [{"path": "$", "message": flaw} for flaw in found], code=8)
    click.echo(json.dumps({"schema": schema, "ok": True, "exit_code": 0}))


settle.examples = (
    "sopledger settle hco configs/rounds/four-terminals.json",
    "sopledger settle requests configs/rounds/six-suppliers-five-users.json --method exact",
)
EXAMPLES = {
    hco: (
        "sopledger settle hco configs/rounds/four-terminals.json",
        "sopledger settle hco round.json --html round.html | jq .digest",
    ),
    requests: (
        "sopledger settle requests configs/rounds/six-suppliers-five-users.json",
        "sopledger settle requests day.json --method mopso --html day.html | jq .digest",
    ),
    regions: (
        "sopledger settle regions configs/rounds/four-regions.json",
        "sopledger settle regions regions.json --sign market.key --out trades",
    ),
    check: (
        "sopledger settle check day.json result.json",
        "sopledger settle requests day.json > r.json && sopledger settle check day.json r.json",
    ),
}
for _command, _examples in EXAMPLES.items():
    if isinstance(_command, ExampleCommand):
        _command.examples = _examples
