"""One node's view of the chain: execute, countersign once, recognise finality and lies.

Pure but for the signature: no clock, no network, no disk. ``node`` drives it.

A block is final with q identical votes, q > (n + f) / 2. Two different certificates of one height
would share more than f nodes, so an honest node would have had to vote twice, which ``examine``
never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ledger.contracts.document import Mistake, canonical
from ledger.contracts.market import Effects, Market, Message, Refusal
from ledger.log.canonical import encode
from ledger.network.block import (
    Block,
    block_hash,
    genesis_hash,
    read_block,
    transactions_root,
)
from ledger.network.message import (
    MessageRefused,
    Sign,
    Vote,
    read_message,
    read_vote,
    sign_vote,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Committee:
    """Who countersigns a market, and how many of them may lie."""

    market: str
    keys: Mapping[str, str]
    """Node to its raw Ed25519 public key in hex."""
    faulty_count_max: int

    @property
    def quorum(self) -> int:
        """Identical votes that make a block final."""
        return (len(self.keys) + self.faulty_count_max) // 2 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Something a node signed, or was shown, that can not be right."""

    what: str
    height: int
    details: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """The evidence as an entry of the ledger."""
        return {
            "kind": "net.evidence",
            "what": self.what,
            "height": self.height,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A block executed on the last final state."""

    raw: bytes
    block: Block
    market: Market
    effects: Effects
    subject: tuple[str, str, str]


class Replica:
    """State of one node; ``market`` is the last final one."""

    def __init__(self, committee: Committee, market: Market, *, node: str) -> None:
        self.committee = committee
        self.node = node
        self.market = market
        self.height = 0
        self.head = genesis_hash(committee.market)
        self.executed: Executed | None = None
        self.my_vote: Vote | None = None
        self.votes: dict[str, Vote] = {}
        self.halted = ""
        """Why this node has stopped settling; empty while it runs."""
        self._reported: set[tuple[str, str]] = set()

    def peek(self, raw: bytes) -> Block:
        """Read what stands at the next height."""
        return read_block(
            raw, height=self.height + 1, prev=self.head, utc_ms_min=self.market.now_ms
        )

    def execute(self, raw: bytes, *, name: str = "") -> Executed:
        """Execute the next block on a copy of the final state.

        ``name`` is the block's hash where only that was kept, which is so for rubbish.
        """
        block = self.peek(raw)
        market = Market(msgspec.json.decode(canonical(self.market.snapshot())))
        messages: list[Message] = []
        refused: list[Refusal] = []
        for document in block.messages:
            data = encode(document)
            try:
                messages.append(read_message(self.committee.market, data))
            except MessageRefused as reason:
                mistake = Mistake(path="$", message=str(reason))
                refused.append(Refusal(message=block_hash(data), party="", mistakes=(mistake,)))
        effects = market.apply_block(block.utc_ms, messages)
        effects.refused.extend(refused)
        subject = (name or block_hash(raw), transactions_root(block), market.root())
        return Executed(raw=raw, block=block, market=market, effects=effects, subject=subject)

    def examine(self, raw: bytes, key: Sign, *, name: str = "") -> Vote:
        """Execute the next block and countersign it; once a height, whatever is shown later."""
        assert self.my_vote is None, "a node votes once a height"
        self.executed = self.execute(raw, name=name)
        subject = self.executed.subject
        market = self.committee.market
        self.my_vote = sign_vote(market, self.node, self.height + 1, subject, key)
        self.votes[self.node] = self.my_vote
        return self.my_vote

    def count(self, raw: bytes) -> Evidence | None:
        """Take a vote of the next height into account; give evidence when it shows a lie."""
        vote = read_vote(self.committee.market, raw, self.committee.keys)
        if vote is None or vote.height != self.height + 1:
            return None
        before = self.votes.setdefault(vote.node, vote)
        if before.subject != vote.subject:
            votes = [before.document(), vote.document()]
            return self.report("double vote", vote.node, {"votes": votes})
        mine = self.my_vote
        if mine is None or vote.subject == mine.subject:
            return None
        kind = "other state" if vote.block == mine.block else "other block"
        return self.report(kind, vote.node, {"votes": [mine.document(), vote.document()]})

    def report(self, what: str, who: str, details: Mapping[str, Any]) -> Evidence | None:
        """Report each kind of lie of each node once a height."""
        if (what, who) in self._reported:
            return None
        self._reported.add((what, who))
        return Evidence(what=what, height=self.height + 1, details={"node": who, **details})

    def certified(self) -> tuple[str, str, str] | None:
        """What a quorum has signed at the next height."""
        counts: dict[tuple[str, str, str], int] = {}
        for vote in self.votes.values():
            counts[vote.subject] = counts.get(vote.subject, 0) + 1
        for subject, count in counts.items():
            if count >= self.committee.quorum:
                return subject
        return None

    def hopeless(self) -> bool:
        """Tell whether the votes already differ so much that no quorum can come."""
        counts: dict[tuple[str, str, str], int] = {}
        for vote in self.votes.values():
            counts[vote.subject] = counts.get(vote.subject, 0) + 1
        outstanding = len(self.committee.keys) - len(self.votes)
        return max(counts.values(), default=0) + outstanding < self.committee.quorum

    def certificate(self, subject: tuple[str, str, str]) -> list[dict[str, Any]]:
        """The votes that make a block final, by node."""
        return [
            self.votes[node].document()
            for node in sorted(self.votes)
            if self.votes[node].subject == subject
        ]

    def finish(self, executed: Executed) -> None:
        """Make an executed block the last final one."""
        self.market = executed.market
        self.height += 1
        self.head = executed.subject[0]
        self.executed = None
        self.my_vote = None
        self.votes = {}
        self._reported = set()
