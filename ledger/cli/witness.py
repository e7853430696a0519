"""Witnessing: serve as a witness for others' ledgers, or collect cosignatures for one's own."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ledger.cli.arguments import (
    directory_argument,
    first_header,
    passphrase_option,
    policy_option,
    read_passphrase,
    read_policy,
    read_vkeys,
    tls_given,
    tls_option,
)
from ledger.cli.output import Answer, ExampleGroup, ExitCode, Failure, Remark, command
from ledger.log import anchor, checkpoint
from ledger.log.cosign import create_cosigner, load_cosigner
from ledger.log.keys import KeyFileError
from ledger.log.note import Key, NoteError
from ledger.log.owner import as_owner
from ledger.log.treeview import NothingSigned, TreeView

if TYPE_CHECKING:
    import ssl


@click.group(cls=ExampleGroup)
def witness() -> None:
    """Witness others' ledgers, or have this one witnessed."""


witness.examples = (
    "sopledger witness keygen w.key --name west.example/witness",
    "sopledger witness submit ledger --policy witnesses.policy",
)


@command(
    "keygen",
    "sopledger witness keygen w.key --name west.example/witness",
    "sopledger witness keygen w.key --name west.example/witness --post-quantum",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the witness, like a URL.")
@click.option("--post-quantum", is_flag=True, help="ML-DSA-44 instead of Ed25519.")
@passphrase_option
def keygen(file: Path, name: str, passphrase_file: Path | None, *, post_quantum: bool) -> Answer:
    """Make a witness key; its verifier key stands alone on the last line."""
    try:
        made = create_cosigner(
            file, name, read_passphrase(passphrase_file), post_quantum=post_quantum
        )
    except KeyFileError as error:
        raise Failure(ExitCode.REFUSED, "key-file", str(error)) from None
    except NoteError as error:
        raise Failure(ExitCode.USAGE, "name", str(error)) from None
    return Answer(data={"vkey": made.key.vkey}, lines=(f"Key  {file}", made.key.vkey))


@command(
    "serve",
    "sopledger witness serve state --key w.key --name west.example/witness --logs logs.vkeys",
    "sopledger witness serve state --key w.key --name w.example --logs l.vkeys --port 8080",
)
@click.argument("state", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", "key_files", multiple=True, required=True, type=click.Path(path_type=Path),
              help="Witness key; may be given twice, Ed25519 and ML-DSA-44.")  # fmt: skip
@click.option("--name", required=True, help="Name of the witness.")
@click.option("--logs", required=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Verifier keys of the ledgers to follow, one a line.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 picks a free one.")
@click.option("--tls", type=click.Path(exists=True, file_okay=False, path_type=Path),
              metavar="FOLDER", help="cert.pem and key.pem to serve https with; where there is a "
              "ca.pem too, only to those it signed.")  # fmt: skip
@passphrase_option
def serve(
    *,
    state: Path,
    key_files: Sequence[Path],
    name: str,
    logs: Path,
    host: str,
    port: int,
    tls: Path | None,
    passphrase_file: Path | None,
) -> Answer:
    """Serve as a witness until interrupted."""
    from ledger.log import note
    from ledger.network.witness import Witness

    passphrase = read_passphrase(passphrase_file)
    try:
        cosigners = [load_cosigner(path, name, passphrase) for path in key_files]
    except KeyFileError as error:
        raise Failure(ExitCode.INPUT, "key-file", str(error)) from None
    keys = [note.parse_vkey(v) for v in read_vkeys(logs)]
    made = Witness(state, cosigners=cosigners, logs=keys, unix_s=lambda: int(time.time()))
    try:
        context = door_tls(tls) if tls is not None else None
    except OSError as error:
        raise Failure(ExitCode.INPUT, "tls", f"{tls}: {error}") from None
    asyncio.run(run(made, host, port, context))
    return Answer(lines=("stopped",))


def door_tls(folder: Path) -> ssl.SSLContext:
    """TLS of the witness's door from a folder of files; OSError when they do not fit."""
    from ledger.network.tls import serving

    clients = folder / "ca.pem"
    return serving(
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
        clients=clients if clients.exists() else None,
    )


async def run(made: object, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
    """Serve until SIGINT or SIGTERM."""
    from aiohttp import web

    from ledger.network.doorway import runner_of
    from ledger.network.witness import Witness

    if not isinstance(made, Witness):
        raise TypeError("not a witness")
    runner = runner_of(made.application())
    await runner.setup()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        click.echo(f"witness on {scheme}://{host}:{runner.addresses[0][1]}", err=True)
        await stop.wait()
    finally:
        await runner.cleanup()


@command(
    "submit",
    "sopledger witness submit ledger --policy witnesses.policy",
    "sopledger witness submit ledger --policy witnesses.policy --json",
)
@directory_argument
@policy_option
@tls_option
def submit(directory: Path, policy_file: Path | None) -> Answer:
    """Ask the policy's witnesses to cosign the last checkpoint, and keep what they sign.

    Exit code 8 when a witness knows a larger or different tree, 9 when the quorum is not met.
    """
    first_header(directory)
    policy = read_policy(policy_file)
    if policy is None:
        raise Failure(ExitCode.USAGE, "policy", "--policy FILE names the witnesses")
    asked = {n: (w.key, w.url) for n, w in policy.witnesses.items() if w.url}
    try:
        tree = TreeView.open(directory)
    except NothingSigned as error:
        raise Failure(ExitCode.INPUT, "empty", str(error)) from None
    cosigned, refused, rolled_back = asyncio.run(ask(tree, asked))
    signed = checkpoint.parse(cosigned)
    good: list[Key] = checkpoint.verified_keys(signed.note, policy.keys())
    if len(signed.note.signatures) > 1:
        with as_owner(directory):
            anchor.keep(directory, cosigned)
    remarks = tuple(Remark(code="witness", message=text) for text in refused)
    data = {"size": signed.checkpoint.size, "by": [k.name for k in good], "refused": refused}
    lines = (f"size {signed.checkpoint.size} signed by {', '.join(k.name for k in good)}",)
    if rolled_back:
        return Answer(data=data, lines=lines, errors=remarks, exit_code=ExitCode.VERIFICATION)
    if not policy.met(good):
        return Answer(data=data, lines=lines, errors=remarks, exit_code=ExitCode.UNDECIDED)
    return Answer(data=data, lines=lines, warnings=remarks)


async def ask(tree: TreeView, asked: dict[str, tuple[Key, str]]) -> tuple[bytes, list[str], bool]:
    """Collect cosignatures; also what was refused, and whether somebody knows better."""
    from ledger.network.tls import session as calling
    from ledger.network.witness import RolledBack, collect

    async with calling(tls_given()) as session:
        got = await collect(session, tree, asked)
    rolled_back = any(isinstance(error, RolledBack) for error in got.refused.values())
    return got.cosigned, [f"{n}: {e}" for n, e in sorted(got.refused.items())], rolled_back


for one in (keygen, serve, submit):
    witness.add_command(one)
