"""A node of the market: takes blocks in order, executes, persists, countersigns, recognises final.

Without a quorum it settles nothing: the last final state stays in force. A lie is written down
with the signatures that prove it. Disagreement that no further vote can mend stops the node for
people to decide; there is deliberately no way around it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import canonical
from ledger.log.canonical import decode, encode
from ledger.network import record
from ledger.network.block import Block, block_hash, fill
from ledger.network.message import MessageRefused, read_message
from ledger.network.ordering import OrderingUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ledger.contracts.document import Mistake
    from ledger.network.message import Sign
    from ledger.network.ordering import Ordering
    from ledger.network.record import Append
    from ledger.network.replica import Evidence, Executed, Replica

log = logging.getLogger(__name__)

AGAIN_S = 5.0
"""How long a message may be under way before it is handed in once more."""
WAIT_S = 0.5
"""Longest sleep between looks at the ordering service, should its notices fail."""
RANK_DELAY_S = 0.15
"""How much longer each further node waits before it proposes what the first should have."""
SKEW_MS = 2_000
"""How far ahead of its own clock a node accepts a block's time."""
SNAPSHOT_EVERY = 256
"""Heights between two kept states: what a restart has to execute again at most."""
PRUNE_EVERY = 128
"""Heights between two looks at what every node has countersigned and may be forgotten."""
EFFECTS_KEPT_MAX = 10_000
"""Outcomes of messages remembered for those who ask; the ledger keeps them all."""
MISTAKES_KEPT_MAX = 32
"""Reasons of a remembered refusal: one message may have thousands, and 10,000 are remembered."""
MISTAKE_LENGTH_MAX = 200
"""Of a reason and of its path, which may quote what the party sent; as long as in the ledger."""
UNDER_WAY_MAX = 64
"""Messages of one party that may wait at a node: more would only fill the ordering service."""
EVIDENCE_KEPT_MAX = 64
"""Lies shown in the status; the ledger keeps them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a message in a final block."""

    accepted: bool
    height: int
    mistakes: tuple[tuple[str, str], ...] = ()

    def document(self) -> dict[str, Any]:
        """The answer for those who sent the message."""
        errors = [{"path": path, "message": message} for path, message in self.mistakes]
        return {"accepted": self.accepted, "height": self.height, "errors": errors}


@dataclass(slots=True)
class Waiters:
    """Who waits for which message, and the answers given lately."""

    answers: dict[str, Answer] = field(default_factory=dict)
    futures: dict[str, list[asyncio.Future[Answer]]] = field(default_factory=dict)
    under_way: Counter[str] = field(default_factory=Counter)
    """How many messages of each party wait."""

    def forget(self, message: str, future: asyncio.Future[Answer]) -> None:
        """Stop waiting: answered, or given up."""
        waiting = self.futures.get(message, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self.futures.pop(message, None)

    def settle(self, message: str, answer: Answer) -> None:
        """Answer everybody who waits for a message; the first answer stands.

        A message that comes a second time is refused for its number, but what it did, it did.
        """
        answer = self.answers.setdefault(message, answer)
        while len(self.answers) > EFFECTS_KEPT_MAX:
            del self.answers[next(iter(self.answers))]
        for future in self.futures.pop(message, []):
            if not future.done():
                future.set_result(answer)


class Node:
    """Drives a replica between an ordering service and a ledger."""

    def __init__(
        self,
        replica: Replica,
        ordering: Ordering,
        ledger: Append,
        key: Sign,
        *,
        utc_ms: Callable[[], int],
        skew_ms: int = SKEW_MS,
        keep_state: Callable[[bytes], None] | None = None,
    ) -> None:
        self.replica = replica
        self.evidence: list[Evidence] = []
        self.alarm = ""
        """Why nothing settles at the moment; empty while all is well."""
        self._ordering = ordering
        self._ledger = ledger
        self._key = key
        self._utc_ms = utc_ms
        self._skew_ms = skew_ms
        self._keep_state = keep_state
        self._waiters = Waiters()
        self._wanted_since: float | None = None
        self._progress = asyncio.Event()
        names = sorted(replica.committee.keys)
        self._place, self._count = names.index(replica.node), len(names)

    async def submit(self, raw: bytes) -> Answer:
        """Hand in a message and wait until it is in a final block; raise MessageRefused early."""
        message = read_message(self.replica.committee.market, raw)
        known = self._waiters.answers.get(message.id)
        if known is not None:
            return known
        if self.replica.market.registry.key_of(message.party) != message.key:
            # Strangers are stopped here, so that nobody floods the ordering service for nothing.
            raise MessageRefused(f"not signed with the key of {message.party!r}")
        if self._too_many(message.party):
            raise MessageRefused(f"{UNDER_WAY_MAX} messages of {message.party!r} are under way")
        if message.body.get("kind") == "reveal":
            await self._gate_closed(message.body.get("round"))
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiters.futures.setdefault(message.id, []).append(future)
        self._waiters.under_way[message.party] += 1
        try:
            await self._ordering.submit(raw)
            while not future.done():
                await asyncio.wait((future,), timeout=AGAIN_S)
                if not future.done():
                    # A node that lies may have taken it without putting it into its block.
                    with suppress(OrderingUnavailable):
                        await self._ordering.submit(raw)
            return future.result()
        finally:
            self._waiters.under_way[message.party] -= 1
            self._waiters.forget(message.id, future)

    def _too_many(self, party: str) -> bool:
        """Tell whether a party has more under way than anybody needs; the operator may have any."""
        registry = self.replica.market.registry
        many = self._waiters.under_way[party] >= UNDER_WAY_MAX
        return many and registry.role_of(party) != "operator"

    async def _gate_closed(self, name: object) -> None:
        """Keep offers to ourselves until a final block lies past the gate.

        Whoever orders blocks could otherwise read them and still place a commitment before them,
        in a block with an earlier time.
        """
        gate_ms = self.replica.market.gate_ms(name)
        if gate_ms is None:
            return
        if self._utc_ms() < gate_ms:
            raise MessageRefused("too early: others could still commit")
        while self.replica.market.now_ms < gate_ms:
            self._progress.clear()
            await self._progress.wait()

    def remember(self, leaves: Iterable[bytes]) -> None:
        """Know again, after a start, what became of the messages in the node's ledger."""
        for leaf in leaves:
            if b'"net.final"' not in leaf:
                continue
            entry: dict[str, Any] = decode(leaf)
            if entry.get("kind") != "net.final":
                continue
            height, effects = entry["height"], entry["effects"]
            for message in effects["accepted"]:
                self._waiters.settle(message, Answer(accepted=True, height=height))
            for refusal in effects["refused"]:
                mistakes = tuple(
                    (path, what)
                    for path, _, what in (error.partition(": ") for error in refusal["errors"])
                )
                answer = Answer(accepted=False, height=height, mistakes=mistakes)
                self._waiters.settle(refusal["message"], answer)

    async def at_height(self, height: int) -> None:
        """Wait until a height is final here."""
        while self.replica.height < height:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> None:
        """Work until cancelled, or until disagreement stops the node."""
        while not self.replica.halted:
            try:
                moved = await self._step()
            except OrderingUnavailable as error:
                moved = False
                self._raise(f"ordering: {error}")
            if not moved and not self.replica.halted:
                await self._ordering.wait(self._rest_s())

    def _rest_s(self) -> float:
        """How long to wait for news: not beyond the time at which a round must be cleared."""
        due_ms = self.replica.market.due_ms()
        if due_ms is None or self._wanted_since is not None:
            return WAIT_S
        return min(WAIT_S, max(0.001, (due_ms - self._utc_ms()) / 1000))

    async def _step(self) -> bool:
        """Do the next thing there is to do; False when there is nothing."""
        replica = self.replica
        height = replica.height + 1
        raw = await self._ordering.block(height)
        if raw is None:
            return await self._propose(height)
        self._wanted_since = None
        shown = await self._count_votes(height)
        if replica.my_vote is None and replica.certified() is None:
            if replica.peek(raw).utc_ms > self._utc_ms() + self._skew_ms:
                self._raise("the block's time lies ahead of this clock")
                return False
            await self._vote(raw)
            shown = await self._count_votes(height)
        await self._publish(height, shown)
        subject = replica.certified()
        if subject is not None:
            return await self._finish(raw, subject)
        if replica.hopeless():
            self._halt("the nodes' votes differ so much that no quorum can come")
        elif self.alarm == "":
            self.alarm = f"no quorum yet at height {height}"
        return False

    async def _vote(self, raw: bytes) -> None:
        vote = self.replica.examine(raw, self._key)
        await self._ledger.append_many(record.voted(raw, vote))

    async def _publish(self, height: int, shown: list[bytes]) -> None:
        """Send the own vote, which the ledger holds already, unless the service shows it.

        It may have shown it before: a service that goes on from an older copy has lost it.
        """
        vote = self.replica.my_vote
        if vote is not None and vote.encode() not in shown:
            await self._ordering.vote(height, self.replica.node, vote.encode())

    async def _count_votes(self, height: int) -> list[bytes]:
        shown = await self._ordering.votes(height)
        for raw in shown:
            await self._keep(self.replica.count(raw))
        return shown

    async def _keep(self, evidence: Evidence | None) -> None:
        """Write evidence down, with the signatures that prove it."""
        if evidence is not None:
            self.evidence = [*self.evidence, evidence][-EVIDENCE_KEPT_MAX:]
            log.warning("evidence what=%s height=%s", evidence.what, evidence.height)
            await self._ledger.append_many([encode(evidence.document())])

    async def _finish(self, raw: bytes, subject: tuple[str, str, str]) -> bool:
        replica = self.replica
        executed = replica.executed
        other = None
        if executed is None or executed.subject[0] != subject[0]:
            if block_hash(raw) != subject[0]:
                self._raise("the ordering service shows another block than the nodes signed")
                details = {"shown": block_hash(raw), "votes": replica.certificate(subject)}
                await self._keep(replica.report("orderer equivocates", "orderer", details))
                return False
            executed, other = replica.execute(raw), raw
        if executed.subject != subject:
            self._halt("a quorum reached another state than this node: its software or disk is ill")
            return False
        certificate = replica.certificate(subject)
        height = replica.height + 1
        leaves = record.finished(height, other, certificate, executed.effects)
        index = (await self._ledger.append_many(leaves))[-1]
        replica.finish(executed)
        self.alarm = ""
        self._answer(executed, height)
        self._progress.set()
        if self._keep_state is not None and height % SNAPSHOT_EVERY == 0:
            document = record.snapshot_document(replica, index)
            try:
                await asyncio.to_thread(self._keep_state, canonical(document))
            except OSError as error:  # only a shortcut: the next start executes more
                log.warning("state not kept height=%s: %s", height, error)
        if height % PRUNE_EVERY == 0:
            await self._ordering.prune(height - PRUNE_EVERY)
        return True

    def _answer(self, executed: Executed, height: int) -> None:
        for message in executed.effects.accepted:
            self._waiters.settle(message, Answer(accepted=True, height=height))
        # Nobody waits for what is no message; a block full of it must not push out other answers.
        for refusal in (r for r in executed.effects.refused if r.party):
            mistakes = _kept(refusal.mistakes)
            answer = Answer(accepted=False, height=height, mistakes=mistakes)
            self._waiters.settle(refusal.message, answer)

    async def _propose(self, height: int) -> bool:
        """Put the next block when it is this node's turn, or its turn has come by waiting.

        Where this node has voted already, the service has lost the block: it is put again. Who has
        voted can only repeat that vote, so a quorum may never come to another block.
        """
        voted = self.replica.executed
        if voted is not None and block_hash(voted.raw) == voted.subject[0]:  # not kept of rubbish
            return await self._put(height, voted.raw, [])
        pending = await self._ordering.pending()
        now_ms = max(self._utc_ms(), self.replica.market.now_ms)
        due_ms = self.replica.market.due_ms()
        if not pending and (due_ms is None or now_ms < due_ms):
            self._wanted_since = None
            if not await self._parted(height):
                self.alarm = ""
            return False
        loop = asyncio.get_running_loop()
        if self._wanted_since is None:
            self._wanted_since = loop.time()
        rank = (self._place - height) % self._count
        left_s = self._wanted_since + rank * RANK_DELAY_S - loop.time()
        if left_s > 0:
            await self._ordering.wait(left_s)
            return True
        messages, taken = fill(pending)
        block = Block(
            height=height, utc_ms=now_ms, prev=self.replica.head, messages=tuple(messages)
        )
        return await self._put(height, block.encode(), taken)

    async def _put(self, height: int, raw: bytes, taken: list[bytes]) -> bool:
        """Put a block; False, which is to rest, when neither it nor another one stands there."""
        done = await self._ordering.propose(height, raw, taken)
        if done or await self._ordering.block(height) is not None:
            return True
        await self._parted(height)
        return False

    async def _parted(self, height: int) -> bool:
        """Tell whether the ordering service can never have this height again; raise the alarm."""
        head = await self._ordering.head()
        if head == height - 1 or await self._ordering.block(height) is not None:
            return False
        if head < height:
            self._raise(
                f"the ordering service has lost heights: it is at {head}, this node at {height - 1}"
            )
        else:
            self._raise(f"the ordering service no longer has height {height}, it is at {head}")
        return True

    def stop(self, what: str) -> None:
        """Stop settling for a reason from outside the chain; people decide."""
        self._halt(what)

    def _raise(self, what: str) -> None:
        if self.alarm != what:
            log.warning("alarm what=%s", what)
        self.alarm = what

    def _halt(self, what: str) -> None:
        self._raise(what)
        self.replica.halted = what


def _kept(mistakes: Sequence[Mistake]) -> tuple[tuple[str, str], ...]:
    """As much of a refusal as is remembered; where there is more, the last line says how much."""
    kept = [
        (mistake.path[:MISTAKE_LENGTH_MAX], mistake.message[:MISTAKE_LENGTH_MAX])
        for mistake in mistakes[:MISTAKES_KEPT_MAX]
    ]
    left = len(mistakes) - len(kept)
    return (*kept, ("$", f"and {left} more")) if left else tuple(kept)
