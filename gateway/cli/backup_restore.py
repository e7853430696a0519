"""Puts a backup back: checked whole before the first byte is written, never an older ledger.

A lone machine cannot notice that its ledger was set back (decision 8); whoever kept a checkpoint
can. So the witnesses are asked first (``backup_witness``), kept receipts are held against it, and
so is the ledger that already stands here. Nothing is deleted: what is replaced is moved aside.

Imported inside commands only.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.backup_store import BackupError, Contents, LedgerFound, own_evidence
from gateway.cli.field import clock_of, own_ledger, user
from gateway.cli.output import ExitCode, fail
from gateway.config.problem import ConfigFileError
from gateway.config.site_file import load_site
from gateway.journal.anchoring import kept_here
from gateway.runtime.surroundings import INTAKE_FREE_PPM_MIN
from ledger.log import checkpoint, note
from ledger.log.anchor import contradictions
from ledger.log.owner import as_owner
from ledger.log.writer import LedgerBusy, take_lock

STATE = Path("/var/lib/sopgw")
ASIDE = ".before-restore"

Owner = tuple[int, int]
"""User and group a file is for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One file of a backup and where it goes."""

    name: str
    source: Path
    target: Path
    mode: int
    of_service: bool = False
    """It was the service's own where the backup was made, which an older backup does not say."""


@contextmanager
def staging(box: Path) -> Iterator[Path]:
    """Give a private folder that is gone afterwards, where what a box holds has room.

    It is as large as what it holds. On the ledger's own disk a backup must not be what stops the
    intake of trades: a tenth stays free (``runtime.surroundings``).
    """
    disk, needed = shutil.disk_usage(tempfile.gettempdir()), box.stat().st_size
    if disk.free - needed < disk.total * INTAKE_FREE_PPM_MIN // 1_000_000:
        fail(
            ExitCode.REFUSED,
            f"{tempfile.gettempdir()} has not the room to read the backup in: {needed / 1e6:.1f} "
            f"MB, {disk.free / 1e6:.1f} MB are free, and a tenth of a disk stays so for trading",
            code="B014",
            where=str(box),
            help="TMPDIR=FOLDER names a folder on another disk, private to you",
        )
    with tempfile.TemporaryDirectory(prefix="sopgw-backup-") as folder:
        yield Path(folder)


def places(contents: Contents, *, site_file: Path, allowed: Sequence[Path]) -> list[Place]:
    """Say where each file goes; BackupError for one that would leave the folders allowed.

    A backup sealed for a recipient can be made by anybody who has the public key, so it may
    not write wherever it likes.
    """
    folder = site_file.resolve().parent
    roots = _roots(site_file, allowed)
    found = []
    for row in contents.manifest["files"]:
        name, mode = str(row["name"]), int(row["mode"])
        kind, _, rest = name.partition("/")
        target = folder / rest if kind == "site" else Path("/") / rest
        if name == contents.manifest["site_file"]:
            target = folder / site_file.name
        if not any(target.parent.resolve().is_relative_to(r) for r in roots):
            raise BackupError(f"{target} is outside {folder} and {STATE}: --allow its folder")
        source = contents.folder / name
        of_service = row.get("service") is True
        found.append(
            Place(name=name, source=source, target=target, mode=mode & 0o777, of_service=of_service)
        )
    return found


def ledger_target(contents: Contents, *, site_file: Path, allowed: Sequence[Path]) -> Path:
    """Return where the ledger goes; BackupError for a folder that is not one for a ledger.

    What stands there is moved aside, so it is held against the folders allowed like any file, and
    is never one of the first two itself.
    """
    kind, _, rest = str(contents.manifest["ledger"]["name"]).partition("/")
    folder = site_file.resolve().parent
    target = (folder if kind == "site" else Path("/")) / rest
    real = target.resolve()
    roots = _roots(site_file, allowed)
    if real in roots[:2] or not any(real.is_relative_to(r) for r in roots):
        raise BackupError(f"{target} is outside {folder} and {STATE}: --allow its folder")
    return target


def _roots(site_file: Path, allowed: Sequence[Path]) -> list[Path]:
    """Return the folders a backup may write into: the site's, the state's, then those allowed."""
    return [site_file.resolve().parent, STATE, *(a.resolve() for a in allowed)]


def objections(
    contents: Contents, ledger: LedgerFound, known: Sequence[bytes]
) -> tuple[list[str], list[str]]:
    """Hold the ledger against what is known of it; what contradicts, and what cannot be judged."""
    keys = [note.parse_vkey(v) for v in ledger.vkeys or contents.vkeys]
    origin = str(contents.manifest["ledger"]["origin"])
    mute = []
    for data in known:
        try:
            signed = checkpoint.parse(data)
            ours = checkpoint.verified_keys(signed.note, keys)
        except note.NoteError as error:
            mute.append(f"what was kept is no checkpoint: {error}")
            continue
        if signed.checkpoint.origin != origin:
            mute.append(f"a checkpoint of {signed.checkpoint.origin} was given, not of {origin}")
        elif not ours:
            mute.append(f"a checkpoint of size {signed.checkpoint.size} bears another key")
    folder = contents.ledger_dir
    if not (folder / "segments").is_dir():
        sizes = [checkpoint.parse(d).checkpoint.size for d in known if _parses(d)]
        return [f"the backup has no ledger, {s} entries are known" for s in sizes if s], mute
    return contradictions(folder, known, keys), mute


def _parses(data: bytes) -> bool:
    with suppress(note.NoteError):
        checkpoint.parse(data)
        return True
    return False


def evidence_here(contents: Contents, *, site_file: Path, allowed: Sequence[Path]) -> list[bytes]:
    """Return what the ledgers that stand here say; BackupError while one is written.

    That is the one in the way, and the one of the site file that is here: it may have been moved
    to another folder since the backup. Where the folder is lost, what was kept beside it counts.
    """
    from gateway.app import RECEIPTS

    origin = str(contents.manifest["ledger"]["origin"])
    places = [ledger_target(contents, site_file=site_file, allowed=allowed)]
    with suppress(ConfigFileError, OSError):
        site = load_site(site_file)
        if site.ledger.origin == origin:
            places.append(site.ledger.dir)
    found = []
    for place in {p.resolve(): p for p in places}.values():
        if place.is_dir():
            try:
                with as_owner(place):
                    os.close(take_lock(place))
            except LedgerBusy:
                raise BackupError(f"{place} is being written: stop the service first") from None
        found += own_evidence(place)
        beside = kept_here(place, place.parent / RECEIPTS)
        found += [data for data in beside if _origin(data) == origin]
    return found


def _origin(data: bytes) -> str | None:
    """Return whose checkpoint it is; None for what is none."""
    with suppress(note.NoteError):
        return checkpoint.parse(data).checkpoint.origin
    return None


def in_the_way(planned: Sequence[Place]) -> list[Path]:
    """List the files that stand there already and differ."""
    return [
        p.target
        for p in planned
        if p.target.exists() and p.target.read_bytes() != p.source.read_bytes()
    ]


def owner_named(user: str) -> Owner:
    """Return a user of this machine; BackupError when there is no such user."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise BackupError(f"there is no user {user} here") from None
    return found.pw_uid, found.pw_gid


def owner_of(path: Path) -> Owner:
    """Return who owns the folder a file goes to, or the nearest one there is."""
    there = next(p for p in path.parents if p.exists())
    return there.stat().st_uid, there.stat().st_gid


def put(planned: Sequence[Place], *, ledger: Path, owner: Owner | None = None) -> list[Path]:
    """Write every file where it belongs; return what was moved aside.

    The ledger is moved aside whole: segments of two histories must never lie side by side. What
    root puts back is for ``owner``, or for whoever owns the folder it goes to; what was the
    service's own is for whoever owns the ledger's, for nobody else could read it.
    """
    service = owner or owner_of(ledger / "segments")
    aside = []
    if ledger.exists() and any(ledger.iterdir()):
        aside.append(_aside(ledger))
    for place in planned:
        if place.target.exists() and not place.target.is_relative_to(ledger):
            if place.target.read_bytes() == place.source.read_bytes():
                place.target.chmod(place.mode)
                if place.of_service and os.geteuid() == 0:
                    os.chown(place.target, *service)
                continue
            aside.append(_aside(place.target))
        folders = owner or owner_of(place.target)
        _put(place, service if place.of_service else folders, folders=folders)
    return aside


def _aside(path: Path) -> Path:
    to = path.with_name(path.name + ASIDE)
    number = 1
    while to.exists():
        number += 1
        to = path.with_name(f"{path.name}{ASIDE}-{number}")
    path.rename(to)
    return to


def _put(place: Place, owner: Owner, *, folders: Owner) -> None:
    """Write one file; a folder made on the way to another's secret must let him in."""
    folder = place.target.parent
    secret = place.mode & 0o077 == 0 and owner[0] == folders[0]
    is_root = os.geteuid() == 0
    made = [p for p in (folder, *folder.parents) if not p.exists()]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700 if secret else 0o755)
    for new in made if is_root else ():
        os.chown(new, *folders)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".restore-")
    with os.fdopen(handle, "wb") as out, place.source.open("rb") as file:
        shutil.copyfileobj(file, out)
        out.flush()
        if is_root:
            os.fchown(out.fileno(), *owner)
        os.fchmod(out.fileno(), place.mode)
        os.fsync(out.fileno())
    Path(name).replace(place.target)
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


async def note_restore(site_file: Path, *, made: str, entries_count: int) -> int:
    """Make the restore an entry of the ledger that was put back; return its index.

    Raises JournalError when the ledger or its key does not open.
    """
    site = load_site(site_file)
    journal = own_ledger(site, clock_of())
    try:
        index, _entry = await journal.append(
            "operator",
            {
                "user": user(),
                "verb": "backup restore",
                "arguments": [made, entries_count],
                "reason": "the state of a backup was put back",
            },
        )
    finally:
        await journal.close()
    return index
