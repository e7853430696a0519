"""Asks at a restore what witnesses saw last of a ledger; shows a certificate where one is wanted.

Who is asked stands in the backup and in the site file that already stands here. The certificate
lies in the backup too; one in a folder of ``--tls`` goes before it, for what was valid when the
backup was made may have expired since.

Imported inside commands only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gateway.cli.backup_store import PAPERS, BackupError, Contents, witness_urls
from gateway.config.problem import ConfigFileError
from gateway.config.site_file import Site, load_site
from ledger.network.tls import TlsFiles, calling, session
from ledger.network.witness import WitnessRefused, last_seen


@dataclass(slots=True, kw_only=True)
class Known:
    """Checkpoints of this ledger that others kept, and who could not be asked."""

    checkpoints: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One witness, how it is called, and why without a certificate if so."""

    url: str
    tls: TlsFiles | None
    lacks: str = ""


def papers_in(contents: Contents) -> tuple[TlsFiles | None, str]:
    """Return the papers that lie in a backup, and what is missing of them.

    Only what the manifest lists is opened: it was held against the files, and a name in it leads
    nowhere else on this machine.
    """
    named = contents.manifest["ledger"].get("tls")
    if not isinstance(named, Mapping):
        return None, ""
    listed = {row["name"] for row in contents.manifest["files"]}
    for part in PAPERS:
        if named.get(part) not in listed:
            return None, f"the backup does not hold the {part} for it: give --tls FOLDER"
    return TlsFiles(**{part: contents.folder / named[part] for part in PAPERS}), ""


def folder_papers(folder: Path) -> TlsFiles:
    """Return the papers in a folder of ``--tls``; BackupError when they cannot be used."""
    papers = TlsFiles(
        authority=folder / "ca.pem", certificate=folder / "cert.pem", key=folder / "key.pem"
    )
    try:
        calling(papers)
    except OSError as error:
        wanted = "ca.pem, cert.pem and key.pem"
        raise BackupError(f"{folder} does not hold {wanted} that fit: {error}") from None
    return papers


def doors(contents: Contents, *, site_file: Path, given: TlsFiles | None) -> list[Door]:
    """List the witnesses to ask: those the backup names, and those of the site file that is here.

    The latter because a backup sealed for a recipient can be made by anybody who has the public
    key, and would then name nobody who knows better.
    """
    inside, lacks = (given, "") if given else papers_in(contents)
    found = {
        str(row["url"]): Door(url=str(row["url"]), tls=inside, lacks=lacks)
        for row in contents.manifest["ledger"]["witnesses"]
    }
    with suppress(ConfigFileError, BackupError, OSError):
        site = load_site(site_file)
        papers = given or _of_site(site)
        for url in witness_urls(site):
            found[url] = Door(url=url, tls=papers)
    return list(found.values())


def _of_site(site: Site) -> TlsFiles | None:
    if site.ledger.tls is None:
        return None
    authority, certificate, key = site.ledger.tls
    return TlsFiles(authority=authority, certificate=certificate, key=key)


async def ask(asked: list[Door], origin: str) -> Known:
    """Ask every witness what it saw last of the ledger; who does not answer is named with why."""
    known = Known()
    async with asyncio.TaskGroup() as group:
        for door in asked:
            group.create_task(_ask(door, origin, known))
    return known


async def _ask(door: Door, origin: str, known: Known) -> None:
    try:
        caller = session(door.tls)
    except OSError as error:
        known.silent.append(f"{door.url}: our certificate cannot be used: {error}")
        return
    async with caller:
        try:
            seen = await last_seen(caller, door.url, origin)
        except WitnessRefused as refused:
            known.silent.append("; ".join([str(refused), *_hints(door, refused)]))
            return
    known.asked.append(door.url)
    if seen:
        known.checkpoints.append(seen)


def _hints(door: Door, refused: WitnessRefused) -> Iterator[str]:
    """Say what may help where a door with TLS ended the line; why it did, seldom comes through."""
    said = str(refused)
    away = "Cannot connect" in said and "SSL" not in said
    if refused.status_code or away or not door.url.startswith("https:"):
        return
    if door.lacks:
        yield door.lacks
    elif door.tls is None:
        yield "its door may go by certificates: give --tls FOLDER, or `tls:` under `ledger:`"
    elif "CERTIFICATE_VERIFY_FAILED" not in said:
        yield "it may not believe our certificate: give another with --tls FOLDER"


__all__ = ["Door", "Known", "ask", "doors", "folder_papers", "papers_in"]
