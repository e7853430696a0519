"""What goes into a support bundle, part by part; each part may be missing and says so.

Imported inside commands only.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import subprocess
import zipfile
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from gateway.cli.backup_store import files_named
from gateway.cli.support_redact import Redactor, values_in
from gateway.config.problem import ConfigFileError, report_text
from gateway.config.site_file import Site, load_site

JOURNAL_LINES = 10_000
LOG_BYTES_MAX = 16 << 20
ENTRIES_SHOWN = 200
KINDS_SHOWN = ("boot", "mode", "alarm", "gap", "time_step", "key", "anchor")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same findings give the same bytes
SECRET_WORDS = ("key", "pass", "secret", "account")  # in the name of a site's value
SECRET_SUFFIXES = (".key", ".pem", ".pass", ".password", ".token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of the bundle."""

    name: str
    what: str
    text: str


def secret_files(config_path: Path, site: Site | None) -> set[Path]:
    """Return every file that holds a secret of this site."""
    folder = config_path.resolve().parent
    found = {p for p in folder.glob("*") if p.suffix in SECRET_SUFFIXES}
    found |= {p for p in (folder / "secrets").rglob("*") if p.is_file()}
    found |= {p for p in (folder / "pki").rglob("*.pem") if p.is_file()}
    if site is not None:
        key_file = site.ledger.key_file
        found |= {key_file, site.ledger.answer_key_file}
        found |= {p for name, p in files_named(site) if any(w in name for w in SECRET_WORDS)}
        found |= {p for p in key_file.parent.glob("*") if p.suffix in SECRET_SUFFIXES}
    return {p for p in found if p.is_file()}


def collect(
    config_path: Path, *, logs: tuple[Path, ...], hide_addresses: bool
) -> tuple[list[Part], Redactor]:
    """Gather every part, cleaned."""
    site, problems = _site(config_path)
    redactor = Redactor(values_in(secret_files(config_path, site)), addresses=hide_addresses)
    makers: list[tuple[str, str, Callable[[], str]]] = [
        ("versions.json", "program, Python, system and the parts it stands on", _versions),
        ("site.yaml", "the site file, line numbers kept", lambda: _file_text(config_path)),
        ("problems.txt", "what is wrong with the site file", lambda: problems),
        ("doctor.json", "every check of sopgw doctor", lambda: _doctor(config_path)),
        ("journal.txt", f"last {JOURNAL_LINES} lines of the service", _journal),
    ]
    if site is not None:
        known = site
        makers += [
            ("effective.json", "every value in force", lambda: _json(known.effective)),
            ("ledger.json", "size, checkpoint, kinds, what was no trade", lambda: _ledger(known)),
            ("status.json", "what the service says of itself", lambda: _status(known)),
            ("acceptance.json", "runs with verdicts and open items", lambda: _acceptance(known)),
        ]
    makers += [(f"log-{p.name}", str(p), lambda p=p: _tail(p)) for p in logs]  # type: ignore[misc]
    return [
        Part(name=name, what=what, text=redactor.clean(_made(make))) for name, what, make in makers
    ], redactor


def _made(make: Callable[[], str]) -> str:
    """Return a part, or why there is none: a bundle is asked for when something is broken."""
    try:
        return make()
    except (OSError, ValueError, RuntimeError, TimeoutError) as error:
        return f"not there: {type(error).__name__}: {error}\n"


def _site(path: Path) -> tuple[Site | None, str]:
    try:
        site = load_site(path)
    except ConfigFileError as wrong:
        return None, report_text(wrong.problems)
    return site, report_text(site.warnings) if site.warnings else "none\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _versions() -> str:
    parts = {}
    for line in metadata.requires("sop-gateway") or ():
        name = line.partition(";")[0].split("[")[0].rstrip("<>=!~ .,0123456789*")
        with contextlib.suppress(metadata.PackageNotFoundError):
            parts[name] = metadata.version(name)
    return _json(
        {
            "sop-gateway": metadata.version("sop-gateway"),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "parts": parts,
        }
    )


def _file_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES_MAX))
        return file.read().decode(errors="replace")


def _doctor(config_path: Path) -> str:
    from gateway.cli.doctor import lines_of

    rows = lines_of(config_path)
    return _json([{"id": x.id, "status": x.status, "text": x.text, "fix": x.fix} for x in rows])


def _journal() -> str:
    program = shutil.which("journalctl")
    if program is None:
        return "not there: no journalctl on this machine; give a log with --log\n"
    run = subprocess.run(  # noqa: S603 - a program of the system, fixed words
        [program, "-u", "sopgw", "-n", str(JOURNAL_LINES), "--no-pager", "-o", "short-iso"],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=30,
        check=False,
    )
    return run.stdout or run.stderr


def _ledger(site: Site) -> str:
    from gateway.journal.ledger_journal import read_entries
    from gateway.model.errors import JournalError
    from ledger.log.reader import last_checkpoint
    from ledger.log.segment import LedgerCorrupt

    if not site.ledger.dir.is_dir():
        return "not there: no ledger yet\n"
    kinds: Counter[str] = Counter()
    shown: deque[dict[str, Any]] = deque(maxlen=ENTRIES_SHOWN)
    fault, newest = "", b""
    try:
        for index, entry in read_entries(site.ledger.dir):
            kinds[entry["kind"]] += 1
            if entry["kind"] in KINDS_SHOWN:
                shown.append({"index": index, **entry})
        newest = last_checkpoint(site.ledger.dir)
    except (JournalError, LedgerCorrupt) as error:
        fault = str(error)
    return _json(
        {
            "entries": sum(kinds.values()),
            "kinds": kinds,
            "fault": fault,
            "checkpoint": newest.decode(errors="replace"),
            "shown": list(shown),
        }
    )


def _status(site: Site) -> str:
    import asyncio

    from gateway.app import control_path
    from gateway.runtime.control import ask

    path = control_path(site)
    if not path.exists():
        return "not there: the service does not run\n"
    return _json(asyncio.run(ask(path, {"verb": "status"})))


def _acceptance(site: Site) -> str:
    from gateway.cli.field import sat_folder
    from gateway.commissioning.sat.record import RecordError, RunRecord, runs_in

    rows = []
    for folder in runs_in(sat_folder(site)):
        try:
            state = RunRecord.open(folder, now_us=lambda: 0).state()
        except RecordError as error:
            rows.append({"run": folder.name, "verdict": str(error), "punch": []})
            continue
        punch = [f"{p.number} {p.where}" for p in state.open_punch()]
        rows.append({"run": folder.name, "verdict": state.verdict, "punch": punch})
    return _json(rows)


def write(path: Path, parts: list[Part], redactor: Redactor) -> list[str]:
    """Write the bundle; or return what still leaks, and write nothing."""
    leaking = [f"{p.name}: {what}" for p in parts for what in redactor.leaks(p.text.encode())]
    if leaking:
        return leaking
    with path.open("xb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        path.chmod(0o600)
        for part in parts:
            info = zipfile.ZipInfo(part.name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o600 << 16
            bundle.writestr(info, part.text)
    return []
