"""Nodes witness each other: every ledger's checkpoints are cosigned by the other nodes.

A lone machine can not notice that it was rolled back; the others can. Cosigned checkpoints are
kept beside the ledger, and at the next start nothing older than them is accepted as the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.log import anchor, note
from ledger.log.cosign import load_cosigner
from ledger.log.note import Key, NoteError
from ledger.log.segment import LedgerCorrupt
from ledger.log.treeview import NothingSigned, TreeView
from ledger.network import tls
from ledger.network.witness import RolledBack, Witness, WitnessRefused, collect, last_seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import aiohttp

    from ledger.contracts.document import Node as Place
    from ledger.network.node import Node
    from ledger.network.tls import TlsFiles

log = logging.getLogger(__name__)

FOLDER = "witness"
"""Beside the ledger: what this node last saw of the others'."""
PATH = "/witness"
"""Where the witness is under a node's door."""
EVERY_S_DEFAULT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another node: its witness, and the ledger this node witnesses for it."""

    url: str
    log_key: Key
    witness_key: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutual:
    """How this node witnesses and is witnessed."""

    key_file: Path
    name: str
    every_s: int
    peers: Mapping[str, Peer]
    tls: TlsFiles | None = None
    """What proves this node to the others, where their doors ask."""


def mutual_from(place: Place, base: Path, tls: TlsFiles | None = None) -> Mutual:
    """Read the ``witness`` block of a node file; ``tls`` is that of the node itself."""
    place.fields(required={"key", "name", "peers"}, optional={"every"})
    peers = {}
    for name, peer in place.at("peers").members():
        peer.fields(required={"url", "log", "witness"})
        keys = [_vkey(peer.at("log")), _vkey(peer.at("witness"))]
        url = peer.at("url").text(size_max=255)
        if keys[0] is not None and keys[1] is not None:
            peers[name] = Peer(url=url, log_key=keys[0], witness_key=keys[1])
    return Mutual(
        key_file=base / place.at("key").text(size_max=4096),
        name=place.at("name").text(size_max=255),
        every_s=place.at("every").integer(low=1, high=86_400)
        if place.has("every")
        else EVERY_S_DEFAULT,
        peers=peers,
        tls=tls,
    )


def _vkey(place: Place) -> Key | None:
    try:
        return note.parse_vkey(place.text(size_max=4096))
    except NoteError as error:
        place.wrong(f"is no verifier key: {error}")
        return None


def witness_of(mutual: Mutual, directory: Path, utc_ms: Callable[[], int]) -> Witness:
    """This node as the witness of the others' ledgers."""
    return Witness(
        directory / FOLDER,
        cosigners=[load_cosigner(mutual.key_file, mutual.name)],
        logs=[peer.log_key for peer in mutual.peers.values()],
        unix_s=lambda: utc_ms() // 1000,
    )


async def known_elsewhere(mutual: Mutual, origin: str) -> list[bytes]:
    """What the other nodes last cosigned of this ledger; those that give no answer are named."""
    found = []
    async with tls.session(mutual.tls) as session:
        for name, peer in mutual.peers.items():
            try:
                seen = await last_seen(session, peer.url, origin)
            except WitnessRefused as refused:
                log.warning("witness %s not asked at start: %s", name, refused)
                continue
            if seen:
                found.append(seen)
    return found


async def be_witnessed(mutual: Mutual, directory: Path, node: Node, own: Key) -> None:
    """Have every growth of the ledger, whose key is ``own``, cosigned, until the node halts.

    A growth that somebody has not cosigned is offered to them again, until all have or the ledger
    has grown further. What goes wrong here is said and tried again: it must not end the node.
    """
    height = 0
    growth: Growth | None = None
    async with tls.session(mutual.tls) as session:
        while not node.replica.halted:
            await node.at_height(height + 1)
            try:
                if growth is None or growth.height < node.replica.height:
                    growth = await _growth(mutual, directory, node.replica.height)
                await _offer(session, growth, mutual, directory, node, own)
            except (OSError, LedgerCorrupt) as error:
                log.warning("not witnessed: %s", error)
            if growth is not None and not growth.asked:
                height, growth = growth.height, None
            await rest(mutual.every_s)


@dataclass(slots=True, kw_only=True)
class Growth:
    """The ledger as it was read at a height, which costs a read of all of it."""

    height: int
    tree: TreeView | None
    """None where nothing is signed yet: there is nothing to offer."""
    asked: set[str]
    """The witnesses that have not cosigned it."""


async def _growth(mutual: Mutual, directory: Path, height: int) -> Growth:
    try:
        tree = await asyncio.to_thread(TreeView.open, directory)
    except NothingSigned:
        return Growth(height=height, tree=None, asked=set())
    return Growth(height=height, tree=tree, asked=set(mutual.peers))


async def _offer(
    session: aiohttp.ClientSession,
    growth: Growth,
    mutual: Mutual,
    directory: Path,
    node: Node,
    own: Key,
) -> None:
    """Offer the ledger to the witnesses that have not cosigned it; they are struck off who do.

    A witness that says it has seen another tree must show it, signed by us: else one that lies
    could stop every honest node.
    """
    if growth.tree is None:
        return
    asked = {name: mutual.peers[name] for name in growth.asked}
    witnesses = {name: (peer.witness_key, peer.url) for name, peer in asked.items()}
    collected = await collect(session, growth.tree, witnesses)
    if len(collected.refused) < len(witnesses):
        await asyncio.to_thread(anchor.keep, directory, collected.cosigned)
    growth.asked = set(collected.refused)
    for name, refused in collected.refused.items():
        log.warning("witness what=%s", refused)
        if not isinstance(refused, RolledBack):
            continue
        proof = await _proof(session, mutual.peers[name].url, directory, own)
        if proof:
            node.stop(f"another node has seen another tree of this ledger: {proof}")
        else:
            log.error("witness %s shows nothing of what it says", name)


async def _proof(session: aiohttp.ClientSession, url: str, directory: Path, own: Key) -> str:
    """What a witness's own copy of our checkpoint says against our ledger; empty for nothing."""
    try:
        seen = await last_seen(session, url, own.name)
    except WitnessRefused:
        return ""
    found = await asyncio.to_thread(anchor.contradictions, directory, [seen], [own])
    return "; ".join(found)


async def rest(seconds: float) -> None:
    """Let real time pass: how often others are asked is courtesy, not part of the market."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
