"""What belongs into a backup of a site, how it is packed, read back and checked.

A stream of tar members with a manifest at the end: path, size, SHA-256 and mode of each. The
ledger's segments only grow, so what is copied beside a running service is what a power cut at
that moment would have left; the tail is settled by the ledger's own recovery. Tiles, index and
published checkpoint are derived and made again.

Imported inside commands only.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, cast

from gateway.cli.backup_box import BoxError, BoxReader, BoxWriter, Opener, WrongKey
from gateway.cli.field import state_folder
from gateway.cli.output import ExitCode, fail
from gateway.config.problem import ConfigFileError
from gateway.config.profile_folders import find_profile, shipped_folders
from gateway.config.site_file import Site
from gateway.config.yaml_reader import read_file
from gateway.journal.ledger_journal import key_of
from ledger.log import note, policy, reader, segment, verify
from ledger.log.keys import KeyFileError
from ledger.log.record import Damage
from ledger.log.segment import LedgerCorrupt

RECORD = "backups.jsonl"  # of what was made here, beside the ledger
ROW = frozenset(("made", "file", "bytes", "entries"))  # of its lines, what is told later
MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 64 << 20
COPY_BYTES = 1 << 20
SITE_SUFFIXES = (".yaml", ".yml", ".key", ".pem", ".crt", ".der", ".vkey", ".policy")
SITE_NAMES = ("allowed_signers",)
SITE_FOLDERS = ("profiles", "secrets", "pki")
STATE_FOLDERS = ("sat", "pki", "receipts")
LEDGER_FOLDERS = ("segments", "evidence")
PAPERS = ("authority", "certificate", "key")  # of ``ledger.tls``
FILES_OF = ("gateway.config.site_file", "gateway.config.site_doors")


class BackupError(Exception):
    """The backup cannot be made, or what it holds does not check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file: where it stands, and its name inside."""

    name: str  # ``site/…`` beside the site file, ``absolute/…`` elsewhere
    path: Path


@dataclass(slots=True, kw_only=True)
class Contents:
    """What was read out of a backup."""

    manifest: dict[str, Any]
    folder: Path  # the files by their names inside
    problems: list[str] = field(default_factory=list)

    @property
    def ledger_dir(self) -> Path:
        """The ledger among the files."""
        return self.folder / str(self.manifest["ledger"]["name"])

    @property
    def vkeys(self) -> list[str]:
        """Verifier keys of the ledger, as the backup names them."""
        return [str(v) for v in self.manifest["ledger"]["vkeys"]]


def members_of(site: Site) -> list[Member]:
    """List every file that is needed to go on after the loss of the machine."""
    folder = site.path.resolve().parent
    state = state_folder(site).resolve()
    paths = {site.path.resolve()}
    paths |= {p for p in folder.iterdir() if p.suffix in SITE_SUFFIXES or p.name in SITE_NAMES}
    for name in SITE_FOLDERS:
        paths |= set((folder / name).rglob("*"))
    for name in STATE_FOLDERS:
        paths |= set((state / name).rglob("*"))
    for name in LEDGER_FOLDERS:
        paths |= set((site.ledger.dir.resolve() / name).rglob("*"))
    named = [path for _name, path in files_named(site)] + list(files_read(site))
    paths |= {p.resolve() for p in (*named, site.ledger.answer_key_file)}
    # What systemd hands over lies in memory; it is kept where the credential comes from.
    paths = {p for p in paths if not p.is_relative_to("/run")}
    found = [p for p in paths if not p.is_symlink() and p.is_file()]
    return [Member(name=name_of(p, folder), path=p) for p in sorted(found)]


def files_named(value: Any, name: str = "") -> Iterator[tuple[str, Path]]:
    """Yield every file that a checked site names, with the key it stands under."""
    if isinstance(value, Path):
        if value.is_file():
            yield name, value
    elif isinstance(value, tuple):
        for item in value:
            yield from files_named(item, name)
    elif is_dataclass(value) and not isinstance(value, type) and type(value).__module__ in FILES_OF:
        for part in fields(value):
            yield from files_named(getattr(value, part.name), part.name)


def files_read(site: Site) -> Iterator[Path]:
    """Yield the profiles by path and the capabilities a site's text names: the site holds neither.

    What is shipped with the program comes with it again.
    """
    root, folder = read_file(site.path, prefix="C").root, site.path.parent
    if root is None:  # it has become no YAML since it was read
        return
    shipped = {f.resolve() for f in shipped_folders()}
    devices, sops = root.get("devices"), root.get("sops")
    for _, _, device in devices.pairs() if devices is not None else ():
        path = find_profile(device.word("profile") or "", beside=(folder, folder / "profiles"))
        if path is not None and path.resolve().parent not in shipped:
            yield path
    for _, _, sop in sops.pairs() if sops is not None else ():
        terminals = sop.get("terminals")
        for _, _, terminal in terminals.pairs() if terminals is not None else ():
            word = terminal.word("capability")
            if word is not None:
                yield folder / word


def name_of(path: Path, folder: Path) -> str:
    """Name a file inside: beside the site file, or by its whole path."""
    if path.is_relative_to(folder):
        return f"site/{path.relative_to(folder)}"
    return f"absolute/{path.relative_to('/')}"


def about_of(site: Site, *, made: str) -> dict[str, Any]:
    """Say what may stand in the open header."""
    return {"site": site.id, "made": made, "version": metadata.version("sop-gateway")}


def ledger_vkeys(site: Site) -> list[str]:
    """Return the ledger's verifier keys: the one it began with, and the present one."""
    found = []
    paths = segment.segments(site.ledger.dir)
    with contextlib.suppress(Damage):
        found += [segment.read_header(p).vkey for p in paths[:1]]
    with contextlib.suppress(KeyFileError, note.NoteError, OSError, ValueError, ConfigFileError):
        key_file, origin = site.ledger.key_file, site.ledger.origin
        found.append(key_of(key_file, origin, site.ledger.passphrase()))
    return list(dict.fromkeys(found))


def witness_urls(site: Site) -> list[str]:
    """Return where the ledger's witnesses answer; BackupError when their policy cannot be read."""
    if site.ledger.policy_file is None:
        return [w.url for w in site.ledger.witnesses]
    try:
        found = policy.load(site.ledger.policy_file)
    except policy.PolicyError as error:
        raise BackupError(f"witnesses: {error}") from None
    return [w.url for w in found.witnesses.values() if w.url]


def papers_named(site: Site) -> dict[str, str] | None:
    """Return the names inside a backup of what the site shows witnesses."""
    if site.ledger.tls is None:
        return None
    folder = site.path.resolve().parent
    paths = zip(PAPERS, site.ledger.tls, strict=True)
    return {part: name_of(path.resolve(), folder) for part, path in paths}


def write(box: BoxWriter, site: Site, *, made: str) -> dict[str, Any]:
    """Pack a site into a box; return the manifest."""
    folder = site.path.resolve().parent
    rows = []
    service_uid = service_uid_of(site)
    with tarfile.open(mode="w|", fileobj=cast(BinaryIO, box), format=tarfile.PAX_FORMAT) as tar:
        for member in members_of(site):
            rows.append(_packed(tar, member, service_uid))
        manifest = {
            **about_of(site, made=made),
            "site_file": name_of(site.path.resolve(), folder),
            "config_sha256": site.sha256,
            "ledger": {
                "name": name_of(site.ledger.dir.resolve(), folder),
                "origin": site.ledger.origin,
                "vkeys": ledger_vkeys(site),
                "witnesses": [{"url": url} for url in witness_urls(site)],
                "tls": papers_named(site),
            },
            "files": rows,
        }
        data = json.dumps(manifest, sort_keys=True, indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    box.close()
    return manifest


def service_uid_of(site: Site) -> int | None:
    """Return whose the ledger's folder is, which is the service's user; None where it is root's."""
    with contextlib.suppress(OSError):
        return site.ledger.dir.stat().st_uid or None
    return None


def _packed(tar: tarfile.TarFile, member: Member, service_uid: int | None) -> dict[str, Any]:
    """Add one file with the size it has now; a file that grows meanwhile is cut there."""
    with member.path.open("rb") as file:
        status = os.fstat(file.fileno())
        info = tarfile.TarInfo(member.name)
        info.size, info.mode = status.st_size, stat.S_IMODE(status.st_mode)
        info.mtime = int(status.st_mtime)
        hashed = _Hashed(file)
        tar.addfile(info, cast(BinaryIO, hashed))
    row: dict[str, Any] = {
        "name": member.name,
        "bytes": status.st_size,
        "sha256": hashed.digest.hexdigest(),
        "mode": info.mode,
    }
    return row | ({"service": True} if status.st_uid == service_uid else {})


class _Hashed:
    """A file that is hashed while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        """Read and hash."""
        data = self._file.read(count)
        self.digest.update(data)
        return data


def read(file: BinaryIO, opener: Opener, folder: Path) -> Contents:
    """Open a box into a private folder; every file is held against the manifest.

    Raises:
        BoxError: it does not open, or was changed or cut off.
        BackupError: it opens, but its inside is not that of a backup.
    """
    seen: dict[str, tuple[int, str]] = {}
    manifest: dict[str, Any] | None = None
    try:
        box = cast(BinaryIO, BoxReader(file, opener))
        with tarfile.open(mode="r|", fileobj=box) as tar:
            for info in tar:
                if info.name == MANIFEST:
                    manifest = _manifest(tar, info)
                    continue
                seen[info.name] = _unpacked(tar, info, folder)
    except tarfile.TarError as error:
        raise BackupError(f"the stream inside is damaged: {error}") from None
    if manifest is None:
        raise BackupError("there is no manifest in it")
    return Contents(manifest=manifest, folder=folder, problems=list(_differences(manifest, seen)))


def _manifest(tar: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any]:
    file = tar.extractfile(info)
    if file is None or info.size > MANIFEST_BYTES_MAX:
        raise BackupError("the manifest is damaged")
    try:
        found = json.loads(file.read())
        assert isinstance(found["files"], list)
        assert isinstance(found["ledger"]["vkeys"], list)
        str(found["site_file"]), str(found["ledger"]["origin"]), str(found["made"])
    except (ValueError, KeyError, TypeError, AssertionError, RecursionError):
        raise BackupError("the manifest is damaged") from None
    return dict(found)


def _unpacked(tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path) -> tuple[int, str]:
    """Write one member below the folder; anything but a plain file with a plain name is refused."""
    parts = info.name.split("/")
    if not info.isreg() or parts[0] not in ("site", "absolute") or {"", ".", ".."} & set(parts):
        raise BackupError(f"{info.name!r} does not belong into a backup")
    file = tar.extractfile(info)
    assert file is not None, "a regular member has data"
    path = folder.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest, count = hashlib.sha256(), 0
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while data := file.read(COPY_BYTES):
            digest.update(data)
            count += len(data)
            out.write(data)
    return count, digest.hexdigest()


def _differences(manifest: Mapping[str, Any], seen: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    listed = {f["name"]: (f["bytes"], f["sha256"]) for f in manifest["files"]}
    for name in sorted(listed.keys() | seen.keys()):
        if name not in seen:
            yield f"{name} is listed and not there"
        elif name not in listed:
            yield f"{name} is there and not listed"
        elif listed[name] != seen[name]:
            yield f"{name} is not what the manifest says"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFound:
    """What a verification of the ledger in a backup says."""

    entries_count: int
    checkpoint: bytes
    faults: tuple[str, ...]
    vkeys: tuple[str, ...] = ()
    """Its verifier keys: those the backup names, and those its entries introduced since."""


def check_ledger(contents: Contents) -> LedgerFound:
    """Verify every byte of the ledger in a backup."""
    folder = contents.ledger_dir
    if not (folder / "segments").is_dir():
        return LedgerFound(entries_count=0, checkpoint=b"", faults=())
    if not contents.vkeys:
        count = sum(1 for _ in reader.entries(folder))
        return LedgerFound(
            entries_count=count,
            checkpoint=reader.last_checkpoint(folder),
            faults=("the backup names no verifier key: signatures cannot be checked",),
        )
    report = verify.verify(folder, contents.vkeys)
    return LedgerFound(
        entries_count=report.good_size,
        checkpoint=report.checkpoint,
        faults=tuple(str(f) for f in report.faults),
        vkeys=(*contents.vkeys, *report.adopted_vkeys),
    )


def own_evidence(site_ledger: Path) -> list[bytes]:
    """Return what a ledger that already stands here says of itself: it must not be shortened."""
    from ledger.log.anchor import kept

    if not (site_ledger / "segments").is_dir():
        return []
    try:
        last = reader.last_checkpoint(site_ledger)
    except (LedgerCorrupt, OSError):
        last = b""
    return [*kept(site_ledger), *([last] if last else [])]


def receipt_checkpoints(paths: Iterable[Path]) -> list[bytes]:
    """Return the checkpoints of kept receipts or checkpoint files."""
    found = []
    for path in paths:
        data = path.read_bytes()
        try:
            found.append(str(json.loads(data)["checkpoint"]).encode())
        except (ValueError, KeyError, TypeError, RecursionError):
            found.append(data)  # a checkpoint file as it is published
    return found


def digest_of(path: Path) -> str:
    """Hash a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def made_here(record: Path) -> list[dict[str, Any]]:
    """Return the backups that were made here, and whether their files are still there.

    A line that a power cut left half written is none.
    """
    if not record.exists():
        return []
    rows = []
    for line in record.read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and row.keys() >= ROW:
                rows.append(row | {"present": Path(row["file"]).exists()})
    return rows


@contextlib.contextmanager
def trouble_told(file: Path) -> Iterator[None]:
    """Give trouble with a backup its exit code."""
    try:
        yield
    except WrongKey as wrong:
        fail(
            ExitCode.REFUSED,
            str(wrong),
            code="B009",
            where=str(file),
            help="try the other key or passphrase; it cannot be recovered",
        )
    except BoxError as wrong:
        fail(
            ExitCode.TAMPERED,
            str(wrong),
            code="B002",
            where=str(file),
            help="take another backup: sopgw backup ls",
        )
    except (BackupError, LedgerCorrupt) as wrong:
        fail(ExitCode.REFUSED, str(wrong), code="B008", where=str(file))


__all__ = ["BackupError", "BoxError", "Contents", "Member", "check_ledger", "read", "write"]
