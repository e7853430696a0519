"""Snapshots of the folded state, so that a start folds the last entries and not the whole ledger.

A snapshot is a file beside the ledger that anybody may delete: the fold makes it again. It counts
only when the signed ledger vouches for it: an entry ``snapshot`` behind it names its size and the
SHA-256 of its bytes. And it counts only for the core that made it, byte for byte, and for the same
limits of the site: otherwise everything is folded, once.

Each line is JSON. The first says what it is of; every further one is ``[field, content]``, a
dictionary as pairs in their order and in several lines where it is long, so that writing never
holds the interpreter for more than some milliseconds.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.resources
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import GenericAlias
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from gateway.core.state import Site, State
from gateway.journal.threads import to_the_end
from gateway.ports import Clock

log = logging.getLogger(__name__)

FORMAT = 1
FOLDER = "state"
SUFFIX = ".jsonl"
KEPT = 3  # files; the newest may lack its entry after a crash
ENTRIES_BETWEEN = 50_000  # folded in about a second
LOOK_US = 10_000_000  # how often it is asked whether one is due
PAIRS_MAX = 500  # of a dictionary in one line
REMEMBERED_MAX = {
    "boot": 1, "config": 1, "mode": 100, "trade.accepted": 2_000, "trade.refused": 2_000,
    "plan": 100, "delivery": 2_000, "alarm": 2_000, "operator": 2_000,
}  # fmt: skip
"""Entries of the past that others than the state look back at after a start, of each kind."""
BOUNDS = "bounds"  # of a state: what the site file allows, never in a snapshot

Indexed = tuple[int, dict[str, Any]]
Written = tuple[int, msgspec.Raw]


class Memory:
    """The newest entries of each kind that a start looks back at.

    Kept as JSON: as objects they would take several times the memory, for days.
    """

    def __init__(self, entries: Iterable[Indexed] = ()) -> None:
        self._by_kind = {kind: deque[Written](maxlen=n) for kind, n in REMEMBERED_MAX.items()}
        for index, entry in entries:
            self.take(index, entry)

    def take(self, index: int, entry: Mapping[str, Any]) -> None:
        """Take note of an entry."""
        kept = self._by_kind.get(entry["kind"])
        if kept is not None:
            kept.append((index, msgspec.Raw(msgspec.json.encode(entry))))

    def entries(self) -> list[Indexed]:
        """Give what is remembered in the order of the ledger."""
        return [(index, msgspec.json.decode(raw)) for index, raw in self.written()]

    def written(self) -> list[Written]:
        """Give the same as JSON; quick."""
        return sorted((e for kept in self._by_kind.values() for e in kept), key=lambda e: e[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a snapshot is of: the first line of its file."""

    format: int
    core: str
    site: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state of the past and what its file is known by."""

    size: int
    sha256: str
    state: State
    remembered: list[Indexed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Everything of a state that a file needs, out of reach of later entries."""

    size: int
    fields: Mapping[str, Any]
    remembered: Sequence[Indexed | Written]


def freeze(state: State, remembered: Iterable[Indexed | Written]) -> Frozen:
    """Take a state aside; quick, for it is done between two entries."""
    fields = {
        f.name: _aside(getattr(state, f.name))
        for f in dataclasses.fields(State)
        if f.name != BOUNDS
    }
    return Frozen(size=state.size, fields=fields, remembered=list(remembered))


def _aside(value: Any) -> Any:
    """Copy what later entries could change; frozen records are shared."""
    if isinstance(value, dict):
        return {key: _aside(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_aside(item) for item in value]
    if dataclasses.is_dataclass(value) and not _is_frozen(value):
        return copy.deepcopy(value)
    return set(value) if isinstance(value, set) else value


def _is_frozen(record: Any) -> bool:
    return bool(type(record).__dataclass_params__.frozen)


def lines(frozen: Frozen, site: Site) -> Iterator[bytes]:
    """Write a snapshot, line by line."""
    header = Header(format=FORMAT, core=core_digest(), site=site_digest(site), size=frozen.size)
    yield _line(header)
    for name, value in (("remembered", frozen.remembered), *frozen.fields.items()):
        if isinstance(value, dict) or value is frozen.remembered:
            pairs = list(value.items() if isinstance(value, dict) else value)
            for start in range(0, len(pairs), PAIRS_MAX):
                yield _line((name, pairs[start : start + PAIRS_MAX]))
        else:
            yield _line((name, sorted(value) if isinstance(value, set) else value))


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def read(data: bytes, site: Site) -> Snapshot:
    """Read a snapshot's bytes.

    Raises:
        ValueError: they are none, or one of another core or another site.
    """
    first, _, rest = data.partition(b"\n")
    try:
        header = msgspec.json.decode(first, type=Header)
        if (header.format, header.core) != (FORMAT, core_digest()):
            raise ValueError("made by another version of the core")
        if header.site != site_digest(site):
            raise ValueError("made for other limits of the site")
        state, remembered = State(site, bounds=site.sop), list[Indexed]()
        types = get_type_hints(State)
        for line in rest.splitlines():
            name, raw = msgspec.json.decode(line, type=tuple[str, msgspec.Raw])
            if name == "remembered":
                remembered += msgspec.json.decode(raw, type=list[Indexed])
            elif get_origin(types[name]) is dict:
                pairs = GenericAlias(list, GenericAlias(tuple, get_args(types[name])))
                getattr(state, name).update(msgspec.json.decode(raw, type=pairs))
            else:
                setattr(state, name, msgspec.json.decode(raw, type=types[name]))
    except (msgspec.MsgspecError, KeyError, AssertionError) as error:
        raise ValueError(f"cannot be read: {error}") from error
    if state.size != header.size:
        raise ValueError("its size is not the one it states")
    sha256 = hashlib.sha256(data).hexdigest()
    return Snapshot(size=state.size, sha256=sha256, state=state, remembered=remembered)


@cache
def core_digest() -> str:
    """What makes a fold: the program text of the core and the model."""
    digest = hashlib.sha256()
    for package in ("gateway.core", "gateway.model"):
        for file in sorted(importlib.resources.files(package).iterdir(), key=lambda f: f.name):
            if file.name.endswith(".py"):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def site_digest(site: Site) -> str:
    """The configuration the fold looks at."""
    return hashlib.sha256(msgspec.json.encode(site)).hexdigest()


class Shelf:
    """The snapshots beside one ledger."""

    def __init__(self, directory: Path, site: Site) -> None:
        self.used_size = 0  # of the one this start goes back to
        self._folder = directory / FOLDER
        self._site = site

    def newest_first(self) -> Iterator[Snapshot]:
        """Give what can be read, the newest first; whether the ledger vouches is not known yet."""
        for path in self._paths():
            try:
                snapshot = read(path.read_bytes(), self._site)
            except (OSError, ValueError) as error:
                log.info("snapshot %s is not used: %s", path.name, error)
                continue
            yield snapshot

    def put(self, frozen: Frozen) -> str:
        """Write a snapshot durably; return the SHA-256 of its bytes."""
        self._folder.mkdir(exist_ok=True)
        path = self._folder / f"{frozen.size:020d}{SUFFIX}"
        fresh = path.with_suffix(".new")
        digest = hashlib.sha256()
        with fresh.open("wb") as file:
            for line in lines(frozen, self._site):
                digest.update(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
        for old in self._paths()[KEPT:]:
            old.unlink()
        return digest.hexdigest()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"), reverse=True)


class SnapshotKeeper:
    """Makes a snapshot whenever enough was written since the last one and nothing is under way."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        state: State,
        record: Callable[..., Awaitable[int]],
        clock: Clock,
        memory: Memory,
        last_size: int,
        entries_between: int = ENTRIES_BETWEEN,
    ) -> None:
        self._shelf = shelf
        self._state = state
        self._record = record
        self._clock = clock
        self.memory = memory
        self._last_size = last_size
        self._entries_between = entries_between

    @property
    def due(self) -> bool:
        """Tell whether to make one now."""
        state = self._state
        quiet = not state.received and not state.intents
        return quiet and state.size - self._last_size >= self._entries_between

    async def make(self) -> None:
        """Make one; a disk that refuses the file costs a longer start, nothing else."""
        frozen = freeze(self._state, self.memory.written())
        self._last_size = frozen.size
        try:
            sha256 = await to_the_end(lambda: self._shelf.put(frozen))
        except OSError as error:
            log.warning("no snapshot: %s", error)
            return
        index = await self._record("snapshot", size=frozen.size, sha256=sha256)
        log.info("snapshot of %d entries in entry %d", frozen.size, index)

    async def run(self) -> None:
        """Look now and then, until cancelled."""
        while True:
            if self.due:
                await self.make()
            await self._clock.sleep_until(self._clock.mono_us() + LOOK_US)
