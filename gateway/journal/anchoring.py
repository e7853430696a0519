"""Evidence that leaves the box: the ledger's tree is published and witnesses cosign it.

Works beside the scan and never before it: files are written in a thread, witnesses are asked over
HTTP, and whatever fails is tried again at the next turn. A lone box cannot notice its own
rollback, so what others have seen is also asked for before the ledger is opened.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import apsw
import msgspec

from gateway.journal.threads import to_the_end
from gateway.model.errors import JournalError
from ledger.log import anchor, checkpoint, derived, index, note, policy, tiles
from ledger.log.anchor import Anchored
from ledger.log.note import NoteError
from ledger.log.policy import Policy, PolicyError
from ledger.log.segment import LedgerCorrupt
from ledger.log.tiles import TilesMissing, TileTree
from ledger.network.tls import TlsFiles
from ledger.network.tls import session as calling
from ledger.network.witness import Collected, RolledBack, WitnessRefused, collect, last_seen

log = logging.getLogger(__name__)

START_TIMEOUT_S = 3.0
"""A plant does not wait longer for a witness that is down; the next turn asks it again."""

RECEIPTS_COUNT_MAX = 16
"""Of the newest kept receipts: each binds everything before it, and each may lie in another part
of the ledger that has to be read before the start."""

CATCH_UP_COUNT = 20_000
"""So many entries are indexed in a fifth of a second, beside the scan; more, elsewhere."""

CATCH_UP_NICE = 10
RECEIPT_BYTES_MAX = 16 << 20
GROUP = "witnesses"
Asked = Mapping[str, tuple[note.Key, str]]
Urls = Sequence[tuple[str, str]]
Papers = tuple[Path, Path, Path]
"""An authority, our certificate and its key."""


def trust(vkey: str, witnesses: Urls, policy_file: Path | None) -> Policy | None:
    """Return who must have signed for the ledger to count as anchored; None when nobody can.

    Args:
        vkey: The log's own verifier key.
        witnesses: URL and verifier key of each witness; any one of them is enough.
        policy_file: A C2SP tlog-policy instead; its quorum must be met.

    Raises:
        JournalError: The policy cannot be read, or a witness's key is none.
    """
    try:
        if policy_file is not None:
            return _of_file(policy_file, vkey)
        return _any_of(vkey, witnesses) if witnesses else None
    except (PolicyError, NoteError) as error:
        raise JournalError(f"witnesses: {error}") from error


def _of_file(path: Path, vkey: str) -> Policy:
    found = policy.load(path)
    if vkey not in [party.key.vkey for party in found.logs]:
        raise PolicyError(f"{path} does not name this log: add `log {vkey}`")
    return found


def _any_of(vkey: str, witnesses: Urls) -> Policy:
    """Write the policy that one of the witnesses is enough."""
    lines = [f"log {vkey}"]
    lines += [f"witness w{n} {key} {url}" for n, (url, key) in enumerate(witnesses)]
    names = " ".join(f"w{n}" for n in range(len(witnesses)))
    return policy.parse("\n".join([*lines, f"group {GROUP} any {names}", f"quorum {GROUP}"]))


def seen_file(directory: Path) -> Path:
    """Where the newest published checkpoint lies beside the ledger, for the next start.

    Outside the ledger's folder, so that putting an older copy of the folder back is noticed.
    """
    return directory.with_name(directory.name + ".seen")


def kept_here(directory: Path, receipts: Path) -> list[bytes]:
    """Return the checkpoints of this log that lie on this machine outside the ledger's folder."""
    found = []
    with suppress(OSError):
        found.append(seen_file(directory).read_bytes())
    files = sorted(receipts.glob("*.json"), key=lambda p: p.stat().st_mtime)
    for path in files[-RECEIPTS_COUNT_MAX:]:
        with suppress(OSError, msgspec.MsgspecError, AttributeError):
            if path.stat().st_size <= RECEIPT_BYTES_MAX:
                found.append(msgspec.json.decode(path.read_bytes()).get("checkpoint", "").encode())
    return found


def vouched(
    directory: Path,
    known: Iterable[bytes] = (),
    witnesses: Urls = (),
    policy_file: Path | None = None,
) -> list[bytes]:
    """Return the checkpoints that bind this ledger whatever key of its signed them.

    Its key may have been changed since it was as it lies here: what was published here counts
    then, and of what is known elsewhere what one of our witnesses cosigned. A stranger's word
    does not, for it would keep a gateway from starting.

    Raises:
        JournalError: The policy cannot be read, or a witness's key is none.
    """
    try:
        if policy_file is not None:
            keys = [party.key for party in policy.load(policy_file).witnesses.values()]
        else:
            keys = [note.parse_vkey(key) for _, key in witnesses]
    except (PolicyError, NoteError) as error:
        raise JournalError(f"witnesses: {error}") from error
    found = []
    for data in known:
        with suppress(NoteError):
            if checkpoint.verified_keys(note.parse(data), keys):
                found.append(data)
    with suppress(OSError):
        found.append(seen_file(directory).read_bytes())
    return found


def session_with(tls: Papers | None) -> aiohttp.ClientSession:
    """Return a session that calls witnesses; OSError when its files cannot be used."""
    if tls is None:
        return aiohttp.ClientSession()
    authority, certificate, key = tls
    return calling(TlsFiles(authority=authority, certificate=certificate, key=key))


async def known_outside(
    origin: str, witnesses: Urls, policy_file: Path | None, tls: Papers | None = None
) -> list[bytes]:
    """Ask the witnesses what they saw last of this log; those that do not answer are named.

    Raises:
        JournalError: The policy cannot be read.
    """
    urls = [url for url, _ in witnesses]
    if policy_file is not None:
        try:
            urls = [w.url for w in policy.load(policy_file).witnesses.values() if w.url]
        except PolicyError as error:
            raise JournalError(f"witnesses: {error}") from error
    found: list[bytes] = []

    async def ask(session: aiohttp.ClientSession, url: str) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                found.append(await last_seen(session, url, origin))
        except WitnessRefused as refused:
            log.warning("witness=%s not asked at start: %s", url, refused)
        except TimeoutError:
            log.warning("witness=%s not asked at start: no answer in time", url)

    if urls:
        try:
            calling = session_with(tls)
        except OSError as error:  # a start does not hang on a certificate
            log.warning("witnesses not asked at start: %s", error)
            return []
        async with calling as session, asyncio.TaskGroup() as group:
            for url in urls:
                group.create_task(ask(session, url))
    return [data for data in found if data]


class Anchoring:
    """Publishes one ledger and collects cosignatures for it, turn by turn."""

    def __init__(
        self,
        directory: Path,
        trusted: Policy | None,
        *,
        every_s: float,
        size: Callable[[], int] = lambda: 0,
        tls: Papers | None = None,
    ) -> None:
        """Work on one ledger; ``size`` tells how many entries it has now.

        ``tls`` are the authority, our certificate and its key for witnesses that ask for one; they
        are read again for each turn, for they are renewed in place.
        """
        self.directory = directory
        self._tls = tls
        self._size = size
        self.policy = trusted
        self.anchored: Anchored | None = None
        self.damage = ""
        """What did not check when the segments were read for tiles and index."""
        self._against: dict[str, str] = {}  # by witness, until it cosigns this tree again
        self._every_s = every_s
        self._follower: derived.Follower | None = None
        self._published_size = -1
        self._troubles: dict[str, str] = {}
        self._judge()

    @property
    def contradiction(self) -> str:
        """What witnesses hold against this ledger: somebody knows another tree of it."""
        return "; ".join(self._against.values())

    async def run(self) -> None:
        """Take turns until cancelled."""
        never = asyncio.Event()
        while True:
            await self.turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await never.wait()

    async def turn(self) -> None:
        """Publish what is new, have it cosigned, and judge again whether the ledger is anchored."""
        try:
            if self._follower is None and self._size() - self._derived_size() > CATCH_UP_COUNT:
                await self._catch_up()
            size = await to_the_end(self._publish)
        except (OSError, apsw.Error, LedgerCorrupt, NoteError) as error:
            self._follower = None
            if isinstance(error, LedgerCorrupt):
                self.damage = str(error)
            self._tell("publishing", str(error))
            return
        self.damage = ""
        self._tell("publishing", "")
        behind = self.anchored is None or self.anchored.size < size
        if size and behind and self.policy is not None:
            try:
                await self._ask(self.policy)
                await to_the_end(self._judge)
            except (OSError, NoteError) as error:  # what was cosigned cannot be kept or read
                self._tell("evidence", str(error))
            else:
                self._tell("evidence", "")

    def _derived_size(self) -> int:
        """Up to which entry tiles and index have been written before."""
        try:
            published = TileTree.open(self.directory).size
        except TilesMissing:
            return 0
        return min(published, index.size(self.directory))

    async def _catch_up(self) -> None:
        """Have a process of its own write what is missing: long work would slow the scan down."""
        log.info("ledger=%s tiles and index are built", self.directory)
        words = (sys.executable, "-m", "ledger", "rebuild", str(self.directory))
        child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.DEVNULL)
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, child.pid, CATCH_UP_NICE)
            await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                await child.wait()

    def _publish(self) -> int:
        """Write tiles, checkpoint file and index, and remember the checkpoint elsewhere."""
        if self._follower is None:
            self._follower = derived.Follower(self.directory)
        durable = self._size()
        size = self._follower.advance()
        if size < durable:
            read = f"the segments can be read up to entry {size}, {durable} were written"
            raise LedgerCorrupt(read)
        if size and size != self._published_size:
            data = (self.directory / tiles.CHECKPOINT).read_bytes()
            tiles.write_file(seen_file(self.directory), data)
            self._published_size = size
        return size

    async def _ask(self, trusted: Policy) -> None:
        asked: Asked = {
            name: (party.key, party.url) for name, party in trusted.witnesses.items() if party.url
        }
        try:
            tree = TileTree.open(self.directory)
            async with session_with(self._tls) as session:
                got = await collect(session, tree, asked)
        except* OSError as errors:
            self._tell("witnesses", str(errors.exceptions[0]))
        except* TilesMissing as missing:
            self._tell("publishing", f"all tiles are written again: {missing.exceptions[0]}")
            (self.directory / tiles.CHECKPOINT).unlink(missing_ok=True)
            self._follower = None
        else:
            self._tell("witnesses", "")
            await self._take(asked, got)

    async def _take(self, asked: Asked, got: Collected) -> None:
        """Keep what was cosigned; remember who holds something against this ledger."""
        for name in asked:
            self._tell(asked[name][1], str(got.refused.get(name, "")))
        for name in asked:
            refusal = got.refused.get(name)
            if isinstance(refusal, RolledBack):
                self._against[name] = str(refusal)
            elif refusal is None:  # a witness that is mute takes nothing back
                self._against.pop(name, None)
        if len(got.refused) < len(asked):
            await to_the_end(lambda: anchor.keep(self.directory, got.cosigned))

    def _judge(self) -> None:
        """Look at the kept evidence: is there enough of somebody else's?"""
        self.anchored = None
        if self.policy is not None:
            self.anchored = anchor.anchored(self.directory, self.policy)

    def _tell(self, about: str, trouble: str) -> None:
        """Log a trouble when it comes and when it goes, not at every turn."""
        if trouble != self._troubles.get(about, ""):
            log.warning("ledger=%s %s: %s", self.directory, about, trouble or "works again")
            self._troubles[about] = trouble


__all__ = ["Anchoring", "kept_here", "known_outside", "seen_file", "trust", "vouched"]
