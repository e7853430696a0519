"""Putting a node together from its file: ledger, keys, ordering service, door."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol

import msgspec
from aiohttp import web

from ledger.contracts.market import Market
from ledger.log import reader, tiles
from ledger.log.canonical import CanonicalError
from ledger.log.keys import load_key
from ledger.log.writer import LedgerWriter
from ledger.network.doorway import runner_of
from ledger.network.etcd import EtcdOrdering
from ledger.network.mutual import PATH, be_witnessed, known_elsewhere, witness_of
from ledger.network.node import Node
from ledger.network.ordering import EmbeddedOrdering
from ledger.network.record import ReplayDiffers, replay, restore
from ledger.network.replica import Committee, Replica
from ledger.network.server import Door
from ledger.network.tls import calling, serving

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from ledger.network.config import NodeConfig
    from ledger.network.ordering import Ordering


log = logging.getLogger(__name__)

STATE = "market.state"
"""Beside the ledger: the state at some recent height, so that a restart need not execute all."""


REMEMBERED_COUNT = 3_000
"""Entries before the kept state that are read for the answers in them: a thousand blocks."""


UNREADABLE = (
    msgspec.DecodeError,
    CanonicalError,
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    RecursionError,
    ReplayDiffers,
    OSError,
)
"""What a kept state that was damaged or tampered with can lead to; the ledger then decides."""


class KeyDiffers(Exception):  # noqa: N818 - a fault of the node file
    """The node's key file is not the key the committee knows it by."""


class Ready(Protocol):
    """Told once the node serves."""

    def __call__(self, port: int, node: Node, /) -> None:
        """Take the port the door is at."""
        ...


def ordering_of(config: NodeConfig) -> Ordering:
    """The ordering service of a node file."""
    if config.etcd is None:
        return EmbeddedOrdering()
    return EtcdOrdering(
        config.etcd.endpoints,
        config.market,
        voter_count=len(config.node_keys),
        tls=calling(config.etcd.tls),
    )


def door_tls(config: NodeConfig) -> ssl.SSLContext | None:
    """TLS of the node's own door: whoever comes shows a certificate of the same authority."""
    if config.tls is None:
        return None
    files = config.tls
    return serving(certificate=files.certificate, key=files.key, clients=files.authority)


async def serve(
    config: NodeConfig,
    *,
    utc_ms: Callable[[], int],
    ready: Ready,
    ordering: Ordering | None = None,
) -> str:
    """Run a node until it is cancelled; give the reason when it stopped by itself.

    ``ordering`` takes the place of what the file says, for several nodes in one process.
    """
    signer = load_key(config.key_file, config.node)
    public = signer.key.public
    if public.hex() != config.node_keys[config.node]:
        raise KeyDiffers(f"{config.key_file} is not the key of {config.node!r} in this file")
    log_key = load_key(config.ledger_key_file, config.ledger_origin)
    committee = Committee(
        market=config.market, keys=config.node_keys, faulty_count_max=config.faulty_count_max
    )
    genesis = Market.genesis(config.market, config.operator, config.operator_key)
    replica = Replica(committee, genesis, node=config.node)
    mutual = config.mutual
    known = await known_elsewhere(mutual, config.ledger_origin) if mutual is not None else []
    async with AsyncExitStack() as stack:
        writer = await asyncio.to_thread(
            LedgerWriter.open,
            config.ledger_directory,
            signer=log_key,
            origin=config.ledger_origin,
            known=known,
        )
        stack.push_async_callback(writer.close)
        earlier, leaves = ledger_leaves(config.ledger_directory, replica)
        replay(replica, leaves, signer)
        ordering = ordering or ordering_of(config)
        stack.push_async_callback(ordering.close)
        if config.etcd is None:
            await resume(ordering, replica)
        node = Node(
            replica,
            ordering,
            writer,
            signer,
            utc_ms=utc_ms,
            keep_state=lambda data: tiles.write_file(config.ledger_directory / STATE, data),
        )
        node.remember([*earlier, *leaves])
        del earlier, leaves
        app = Door(node, key=signer, public=public, delivery=config.delivery).application()
        if mutual is not None:
            witness = witness_of(mutual, config.ledger_directory, utc_ms)
            app.add_subapp(PATH, witness.application())
        runner = runner_of(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, config.host, config.listen_port, ssl_context=door_tls(config))
        await site.start()
        ready(runner.addresses[0][1], node)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(node.run())
                if mutual is not None:
                    keep = be_witnessed(mutual, config.ledger_directory, node, log_key.key)
                    group.create_task(keep)
        except ExceptionGroup as failed:  # whoever called asks what went wrong, not in which task
            raise first_of(failed) from failed
        # Halted: the door stays open, so that people can read why and take the evidence.
        await asyncio.Event().wait()
    return replica.halted


def first_of(failed: Exception) -> Exception:
    """What went wrong first in a group of tasks."""
    while isinstance(failed, ExceptionGroup):
        failed = failed.exceptions[0]
    return failed


def ledger_leaves(directory: Path, replica: Replica) -> tuple[list[bytes], list[bytes]]:
    """Entries still to be executed: all, or those after the kept state where it can be believed.

    Before them those just before the kept state, which only tell what became of messages.
    """
    path = directory / STATE
    if path.exists():
        try:
            document = msgspec.json.decode(path.read_bytes())
            index: int = document["index"]
            found = list(reader.entries(directory, max(0, index - REMEMBERED_COUNT)))
            restore(replica, document, dict(found)[index])
        except UNREADABLE as error:
            log.warning("kept state not used: %s", error)
        else:
            earlier = [leaf for place, leaf in found if place <= index]
            return earlier, [leaf for place, leaf in found if place > index]
    return [], [leaf for _, leaf in reader.entries(directory)]


async def resume(ordering: Ordering, replica: Replica) -> None:
    """Tell a fresh embedded order where the ledger stands; a vote not yet final is voted again."""
    if isinstance(ordering, EmbeddedOrdering):
        ordering.start_at(replica.height)
        executed = replica.executed
        if executed is not None:
            await ordering.propose(replica.height + 1, executed.raw, [])
