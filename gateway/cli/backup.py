"""``sopgw backup``: create, verify, restore; sealed, checked, and never an older ledger."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.output import ExitCode, Finding, emit, fail, group, site_option, warn

if TYPE_CHECKING:
    from gateway.cli.backup_box import Opener
    from gateway.cli.backup_restore import Place
    from gateway.cli.backup_store import Contents, LedgerFound
    from gateway.cli.backup_witness import Known

PASSPHRASE_MIN = 12  # characters; Argon2id slows guessing down, it does not make 1234 a secret

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the passphrase, mode 0600; asked for at a terminal without one.",
)
identity_option = click.option(
    "--identity",
    "identity_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Private key of `sopgw backup keygen`.",
)


@group(
    "backup",
    examples=(
        ("sopgw backup create /mnt/usb -c site.yaml", "sealed with a passphrase, then verified"),
        ("sopgw backup restore elm.sopbackup --confirm elm -c site.yaml", "on a new machine"),
    ),
)
def backup() -> None:
    """Back up and restore a site: configuration, keys, acceptance papers, ledger."""


@backup.command(
    "keygen",
    schema="backup.keygen",
    impact="rw",
    examples=(
        ("sopgw backup keygen backup.key", "a key pair; the private half stays off the gateway"),
        ("sopgw backup keygen backup.key --json", "the recipient for a script"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
def keygen(*, file: Path) -> None:
    """Make a key that opens backups; give the recipient it prints to `backup create`."""
    from gateway.cli import backup_box

    made = backup_box.new_identity(file)
    emit({"file": str(file), "recipient": made}, text=f"{file} opens what is sealed for\n{made}")


@backup.command(
    "create",
    schema="backup.create",
    impact="rw",
    examples=(
        ("sopgw backup create /mnt/usb --passphrase-file pass -c site.yaml", "with a passphrase"),
        ("sopgw backup create /mnt/usb --recipient sopgw-recipient-… -c site.yaml", "for a key"),
    ),
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--recipient", "recipients", multiple=True, help="Public half of a backup key.")
@passphrase_option
@site_option
def create(
    *, folder: Path, recipients: tuple[str, ...], passphrase_file: Path | None, config_path: Path
) -> None:
    """Seal the site into one file beside a running service, and read it back whole."""
    import json

    from gateway.cli import backup_box, backup_store
    from gateway.cli.field import clock_of, state_folder
    from gateway.commissioning.sat.report import utc_text
    from gateway.config.site_file import load_site
    from gateway.journal.owner import as_owner

    site = load_site(config_path)
    try:
        public = [backup_box.recipient(r) for r in recipients]
    except backup_box.BoxError as wrong:
        fail(ExitCode.USAGE, str(wrong), code="B001", help="`sopgw backup keygen` prints one")
    passphrase = None if public and passphrase_file is None else _passphrase(passphrase_file, 2)
    made = utc_text(clock_of().utc_us())
    with _told(config_path):
        backup_store.witness_urls(site)  # a policy that cannot be read is told before the work
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{site.id}-{made[:19].replace(':', '').replace(' ', 'T')}.sopbackup"
    partial = path.with_suffix(".partial")
    with partial.open("xb") as file, _whole_or_gone(partial):
        partial.chmod(0o600)
        about = backup_store.about_of(site, made=made)
        box = backup_box.BoxWriter(file, about, passphrase=passphrase, recipients=public)
        manifest = backup_store.write(box, site, made=made)
        file.flush()
        os.fsync(file.fileno())
        contents, ledger = _read_back(partial, box.opener)
        _refuse_damaged(partial, contents, ledger)
        partial.rename(path)
    _keep_names(folder)
    size_bytes = path.stat().st_size
    row = {
        "made": made,
        "file": str(path.resolve()),
        "bytes": size_bytes,
        "sha256": backup_store.digest_of(path),
        "files": len(manifest["files"]),
        "entries": ledger.entries_count,
    }
    state = state_folder(site)
    with as_owner(state), (state / backup_store.RECORD).open("a", encoding="utf-8") as record:
        record.write(json.dumps(row, sort_keys=True) + "\n")
    text = (
        f"{path}: {len(manifest['files'])} files, {size_bytes / 1e6:.1f} MB\n"
        f"read back and verified, {ledger.entries_count} ledger entries"
    )
    emit(row, text=text)


@backup.command(
    "verify",
    schema="backup.verify",
    examples=(
        ("sopgw backup verify elm.sopbackup --passphrase-file pass", "every byte, every entry"),
        ("sopgw backup verify elm.sopbackup --identity backup.key --json", "with a key"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@passphrase_option
@identity_option
def verify(*, file: Path, passphrase_file: Path | None, identity_file: Path | None) -> None:
    """Open a backup, hold every file against its manifest and verify the ledger in it."""
    opener = _opener(passphrase_file, identity_file)
    contents, ledger = _read_back(file, opener)
    _refuse_damaged(file, contents, ledger)
    emit(
        _data(contents, ledger),
        text="\n".join([*_lines(contents, ledger), "no errors were found"]),
    )


@backup.command(
    "restore",
    schema="backup.restore",
    impact="rw",
    examples=(
        ("sopgw backup restore elm.sopbackup -c site.yaml", "checked; says what it would do"),
        ("sopgw backup restore elm.sopbackup --receipt T-1.json --confirm elm", "put back"),
    ),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--confirm", default="", metavar="SITE", help="Name of the site: put it back.")
@click.option("--replace", is_flag=True, help="Move aside what stands in the way.")
@click.option(
    "--receipt",
    "receipts",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A kept receipt or checkpoint: the ledger must not be older.",
)
@click.option(
    "--tls",
    "papers_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    help="ca.pem, cert.pem, key.pem for witnesses that ask for a certificate; else those inside.",
)
@click.option("--without-witness", is_flag=True, help="Go on though no witness answers.")
@click.option(
    "--allow", multiple=True, type=click.Path(path_type=Path), help="A further folder to write to."
)
@click.option(
    "--owner", metavar="USER", help="Whom root hands the files to; else the folders' owner."
)
@passphrase_option
@identity_option
@site_option
def restore(
    *,
    file: Path,
    owner: str | None,
    confirm: str,
    replace: bool,
    receipts: tuple[Path, ...],
    papers_folder: Path | None,
    without_witness: bool,
    allow: tuple[Path, ...],
    passphrase_file: Path | None,
    identity_file: Path | None,
    config_path: Path,
) -> None:
    """Put a site back beside the site file of -c; refuses a ledger older than anybody has seen."""
    from gateway.cli import backup_restore as restoring

    opener = _opener(passphrase_file, identity_file)
    with restoring.staging(file) as folder, _told(file):
        handed = restoring.owner_named(owner) if owner else None
        contents, ledger = _read(file, opener, folder)
        _refuse_damaged(file, contents, ledger)
        planned = restoring.places(contents, site_file=config_path, allowed=allow)
        known = _known(
            contents, receipts, site_file=config_path, allowed=allow, papers_folder=papers_folder
        )
        _refuse_older(file, contents, ledger, known, without_witness=without_witness)
        ways = restoring.in_the_way(planned)
        data = _data(contents, ledger) | {
            "asked": known.asked,
            "silent": known.silent,
            "folders": sorted({str(p.target.parent) for p in planned}),
            "replaced": [],
        }
        _refuse_unconfirmed(contents, planned, ways, confirm=confirm, replace=replace, data=data)
        target = restoring.ledger_target(contents, site_file=config_path, allowed=allow)
        data["replaced"] = [str(p) for p in restoring.put(planned, ledger=target, owner=handed)]
        data["entry"] = _note(contents, ledger, config_path) if ledger.entries_count else None
    lines = [*_lines(contents, ledger), f"put back: {len(planned)} files"]
    lines += [f"moved aside: {p}" for p in data["replaced"]]
    lines.append(f"Next: sopgw config check {config_path}, sopgw doctor, then start the service")
    emit(data, text="\n".join(lines))


@backup.command(
    "ls",
    schema="backup.ls",
    examples=(
        ("sopgw backup ls -c site.yaml", "what was made here, newest last"),
        ("sopgw backup ls --json -c site.yaml", "for a script"),
    ),
)
@site_option
def ls(*, config_path: Path) -> None:
    """List the backups made on this machine, and whether the files are still there."""
    from gateway.cli.backup_store import RECORD, made_here
    from gateway.cli.field import state_folder
    from gateway.config.site_file import load_site

    rows = made_here(state_folder(load_site(config_path)) / RECORD)
    lines = [
        f"{r['made']}  {r['bytes'] / 1e6:8.1f} MB  {'' if r['present'] else 'GONE  '}{r['file']}"
        for r in rows
    ]
    emit({"backups": rows}, text="\n".join(lines) or "no backup yet")


def _keep_names(folder: Path) -> None:
    """Make a rename outlast a power cut; not every medium can be asked for that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _whole_or_gone(partial: Path) -> Iterator[None]:
    """Take a file away again that did not become a backup: it only fills the medium."""
    try:
        yield
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _note(contents: Contents, ledger: LedgerFound, config_path: Path) -> int | None:
    """Write into the ledger that it was put back; a warning when that cannot be."""
    import asyncio

    from gateway.cli.backup_restore import note_restore
    from gateway.model.errors import ConfigError, JournalError

    made = str(contents.manifest["made"])
    try:
        return asyncio.run(note_restore(config_path, made=made, entries_count=ledger.entries_count))
    except (JournalError, ConfigError) as error:
        warn("B013", f"the restore is no entry of the ledger: {error}")
        return None


# Opening and refusing


def _passphrase(path: Path | None, asks_count: int) -> bytes:
    from gateway.config.secret import read_secret

    if path is not None:
        text = read_secret(path)
    elif sys.stdin.isatty():
        text = click.prompt(
            "Passphrase", hide_input=True, confirmation_prompt=asks_count > 1, err=True
        )
    else:
        fail(
            ExitCode.USAGE,
            "no passphrase",
            code="B001",
            help="--passphrase-file FILE, or --recipient and --identity",
        )
    if len(text) < PASSPHRASE_MIN:
        fail(
            ExitCode.USAGE,
            f"a passphrase has {PASSPHRASE_MIN} characters or more",
            code="B001",
            help="four words of a dice list are easy to keep",
        )
    return text.encode()


def _opener(passphrase_file: Path | None, identity_file: Path | None) -> Opener:
    from gateway.cli import backup_box
    from gateway.config.secret import read_secret

    if identity_file is not None:
        try:
            private = backup_box.identity(read_secret(identity_file).encode() + b"\n")
        except backup_box.BoxError as wrong:
            fail(ExitCode.USAGE, str(wrong), code="B001", where=str(identity_file))
        return backup_box.Opener(private=private)
    return backup_box.Opener(passphrase=_passphrase(passphrase_file, 1))


def _told(file: Path) -> Any:
    from gateway.cli.backup_store import trouble_told

    return trouble_told(file)


def _read(file: Path, opener: Opener, folder: Path) -> tuple[Contents, LedgerFound]:
    from gateway.cli import backup_store

    with file.open("rb") as stream:
        contents = backup_store.read(stream, opener, folder)
    return contents, backup_store.check_ledger(contents)


def _read_back(file: Path, opener: Opener) -> tuple[Contents, LedgerFound]:
    from gateway.cli.backup_restore import staging

    with staging(file) as folder, _told(file):
        return _read(file, opener, folder)


def _refuse_damaged(file: Path, contents: Contents, ledger: LedgerFound) -> None:
    wrong = [*contents.problems, *ledger.faults]
    if wrong:
        raise _failed(
            ExitCode.TAMPERED,
            [Finding(code="B002", message=w, where=str(file), help=HELP_OTHER) for w in wrong],
        )


HELP_OTHER = "take another backup: sopgw backup ls"


def _failed(code: ExitCode, findings: list[Finding], data: Any = None) -> Exception:
    from gateway.cli.output import CommandFailed

    return CommandFailed(code, findings, data=data)


def _known(
    contents: Contents,
    receipts: tuple[Path, ...],
    *,
    site_file: Path,
    allowed: tuple[Path, ...],
    papers_folder: Path | None,
) -> Known:
    import asyncio

    from gateway.cli import backup_restore, backup_store, backup_witness

    kept = backup_restore.evidence_here(contents, site_file=site_file, allowed=allowed)
    kept += backup_store.receipt_checkpoints(receipts)
    given = backup_witness.folder_papers(papers_folder) if papers_folder else None
    asked = backup_witness.doors(contents, site_file=site_file, given=given)
    known = asyncio.run(backup_witness.ask(asked, str(contents.manifest["ledger"]["origin"])))
    known.checkpoints += kept
    return known


def _refuse_older(
    file: Path, contents: Contents, ledger: LedgerFound, known: Known, *, without_witness: bool
) -> None:
    from gateway.cli.backup_restore import objections

    against, mute = objections(contents, ledger, known.checkpoints)
    if against:
        findings = [
            Finding(code="B003", message=text, where=str(file), help="take a newer backup")
            for text in against
        ]
        raise _failed(ExitCode.TAMPERED, findings)
    if mute:
        findings = [
            Finding(
                code="B004",
                message=text,
                where=str(file),
                help="find out who made it before anything is put back",
            )
            for text in mute
        ]
        raise _failed(ExitCode.UNDECIDED, findings)
    if known.silent and not known.asked and not without_witness:
        findings = [
            Finding(code="B005", message=text, help="mend what is said, or --without-witness")
            for text in known.silent
        ]
        raise _failed(ExitCode.UNDECIDED, findings)
    for text in known.silent:
        warn("B005", f"not asked: {text}")


def _refuse_unconfirmed(
    contents: Contents,
    planned: list[Place],
    ways: list[Path],
    *,
    confirm: str,
    replace: bool,
    data: dict[str, Any],
) -> None:
    if ways and not replace:
        findings = [
            Finding(code="B006", message=f"{path} stands there and differs", help="--replace")
            for path in ways
        ]
        raise _failed(ExitCode.REFUSED, findings, data)
    site = str(contents.manifest["site"])
    if confirm != site:
        folders = ", ".join(data["folders"])
        finding = Finding(
            code="B007",
            message=f"checked; nothing was written. {len(planned)} files would go to {folders}",
            help=f"--confirm {site}",
        )
        raise _failed(ExitCode.UNCONFIRMED, [finding], data)


def _data(contents: Contents, ledger: LedgerFound) -> dict[str, Any]:
    manifest = contents.manifest
    return {
        "site": manifest["site"],
        "made": manifest["made"],
        "version": manifest["version"],
        "origin": manifest["ledger"]["origin"],
        "vkeys": contents.vkeys,
        "files": len(manifest["files"]),
        "entries": ledger.entries_count,
    }


def _lines(contents: Contents, ledger: LedgerFound) -> list[str]:
    manifest = contents.manifest
    return [
        f"site {manifest['site']}, made {manifest['made']} by sop-gateway {manifest['version']}",
        f"  {len(manifest['files'])} files as listed",
        f"  ledger {manifest['ledger']['origin']}: {ledger.entries_count} entries verified",
        *(f"  key {v}" for v in contents.vkeys),
    ]
