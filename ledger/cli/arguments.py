"""Arguments that several commands share, and how they are read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ledger.cli.output import ExitCode, Failure
from ledger.log import note, reader, segment
from ledger.log.anchor import NOT_ANCHORED, anchored
from ledger.log.keys import KeyFileError, Signer, load_key
from ledger.log.policy import Policy, PolicyError, load
from ledger.log.record import Damage
from ledger.log.segment import LedgerCorrupt

if TYPE_CHECKING:
    from ledger.network.tls import TlsFiles

KEY_FILE = "ledger.key"
VKEY_BYTES_MAX = 64 << 10

directory_argument = click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False), metavar="DIR"
)
key_option = click.option(
    "--key",
    "key_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the ledger's verifier key, one key a line.",
)
policy_option = click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="C2SP tlog-policy: the witnesses whose cosignatures count.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File whose first line unlocks the key.",
)
private_key_option = click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"The log key; DIR/{KEY_FILE} when not given.",
)

TLS_KEY = "ledger.cli.tls"
"""Under which a command remembers the folder of --tls until somebody is called."""


def keep_tls(context: click.Context, _option: click.Parameter, given: Path | None) -> None:
    """Remember the folder of --tls for whoever is called in this command."""
    context.meta[TLS_KEY] = given


tls_option = click.option(
    "--tls",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    expose_value=False,
    callback=keep_tls,
    metavar="FOLDER",
    help="ca.pem, cert.pem, key.pem: whom an https door must be, and who we are.",
)


def tls_given() -> TlsFiles | None:
    """The files of --tls; None where it was not given."""
    from ledger.network.tls import TlsFiles

    context = click.get_current_context(silent=True)
    folder: Path | None = None if context is None else context.meta.get(TLS_KEY)
    if folder is None:
        return None
    return TlsFiles(
        authority=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem"
    )


def read_vkeys(path: Path) -> list[str]:
    """Verifier keys from a file: one a line, blank lines and # comments passed over."""
    try:
        text = path.read_bytes()[:VKEY_BYTES_MAX].decode()
    except OSError as error:
        raise Failure(ExitCode.USAGE, "key-file", f"{path}: {error.strerror}",
                      "the trusted key is an input: sopledger key show DIR") from None  # fmt: skip
    except UnicodeDecodeError:
        raise Failure(ExitCode.INPUT, "key-file", f"{path}: not a text file") from None
    words = [line.strip() for line in text.splitlines()]
    vkeys = [w for w in words if w and not w.startswith("#") and "+" in w]
    try:
        for vkey in vkeys:
            note.parse_vkey(vkey)
    except note.NoteError as error:
        raise Failure(ExitCode.INPUT, "key-file", f"{path}: {error}") from None
    if not vkeys:
        raise Failure(ExitCode.INPUT, "key-file", f"{path} holds no verifier key")
    return vkeys


def read_policy(path: Path | None) -> Policy | None:
    """A policy file, when one is given."""
    if path is None:
        return None
    try:
        return load(path)
    except PolicyError as error:
        raise Failure(ExitCode.INPUT, "policy", str(error)) from None


def anchor_line(directory: Path, policy: Policy | None) -> tuple[dict[str, Any] | None, str]:
    """Whether evidence has left the box, for people and for programs.

    Without a policy there is no key to check a cosignature with, and nothing counts.
    """
    try:
        size = reader.last_size(directory)
    except (LedgerCorrupt, note.NoteError, OSError):
        size = None  # verify says what is damaged, and up to where the ledger can be read
    found = anchored(directory, policy, size=size)
    if found is None:
        why = "" if policy else " (no --policy given to judge by)"
        return None, f"Anchored  {NOT_ANCHORED}{why}: nobody outside has vouched for this ledger"
    when = datetime.fromtimestamp(found.time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = {"size": found.size, "time_s": found.time_s, "by": list(found.by)}
    return data, f"Anchored  size {found.size} by {', '.join(found.by)} at {when}"


def read_passphrase(path: Path | None) -> bytes | None:
    """First line of a passphrase file."""
    if path is None:
        return None
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise Failure(ExitCode.USAGE, "passphrase-file", f"{path}: {error.strerror}") from None
    if not lines or not lines[0]:
        raise Failure(ExitCode.INPUT, "passphrase-file", f"{path} is empty")
    return lines[0]


def first_header(directory: Path) -> segment.Header:
    """The header of a ledger's newest segment; ends the command when there is no ledger."""
    paths = segment.segments(directory)
    if not paths:
        raise Failure(ExitCode.INPUT, "no-ledger", f"{directory} is not a ledger",
                      "sopledger init DIR --origin NAME makes one")  # fmt: skip
    try:
        return segment.read_header(paths[-1])
    except Damage as damage:
        raise Failure(ExitCode.VERIFICATION, "damaged",
                      f"{paths[-1].name} offset {damage.offset}: {damage}",
                      "sopledger verify DIR --key FILE says more") from None  # fmt: skip


def open_signer(directory: Path, key_file: Path | None, passphrase_file: Path | None) -> Signer:
    """The log key of a ledger."""
    origin = first_header(directory).origin
    try:
        return load_key(key_file or directory / KEY_FILE, origin, read_passphrase(passphrase_file))
    except KeyFileError as error:
        raise Failure(ExitCode.INPUT, "key-file", str(error),
                      "--key-file and --passphrase-file name the key") from None  # fmt: skip
