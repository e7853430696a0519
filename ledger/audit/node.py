"""The rules that a market node's own ledger proves about itself.

Whether the votes' signatures are the committee's cannot be seen here: that takes the market file.
``sopledger node`` checks them before it signs anything again, from the state it has kept on.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from typing_extensions import override

from ledger.audit.evidence import Entry
from ledger.audit.invariants import Invariant
from ledger.audit.shapes import Test, mapping, sequence, text, whole
from ledger.log import canonical

PREFIX = "net."
KINDS: Mapping[str, Mapping[str, Test]] = {
    "net.block": {"height": whole, "sha256": text},
    "net.vote": {"height": whole, "vote": mapping},
    "net.final": {"height": whole, "votes": sequence, "effects": mapping},
    "net.evidence": {"what": text, "height": whole, "details": mapping},
    "key": {"vkey": text, "not_before_us": whole},
}
SUBJECT = ("height", "block", "transactions", "state")

NOT_CHECKED = (
    "the signatures of the nodes' votes and what the blocks' messages lead to: the node replays "
    "them with its market file at every start (sopledger node run), from its kept state on; all of "
    "them where market.state beside the ledger was deleted before",
    "whether this node was shown the same blocks as the others",
)


class Form(Invariant):
    """Bytes, kinds and fields of a node's entries."""

    number, title = "N1", "a node's entries are canonical, of known kinds, with all their fields"

    @override
    def see(self, entry: Entry) -> None:
        if entry.misshapen:
            self.judge(entry, holds=False, what=entry.misshapen)
            return
        own = KINDS.get(entry.kind)
        wrong = f"unknown kind {entry.kind!r}" if own is None else ""
        for name, test in (own or {}).items():
            if name not in entry.fields:
                wrong = f"{entry.kind} lacks {name}"
            elif not test(entry.fields[name]):
                wrong = f"{entry.kind}.{name} is {type(entry.fields[name]).__name__}"
        self.judge(entry, holds=not wrong, what=wrong)


class Heights(Invariant):
    """One height after another."""

    number, title = "N2", "a node works at one height, the one after its last final block"
    kinds = frozenset({"net.block", "net.vote", "net.final"})

    def __init__(self) -> None:
        super().__init__()
        self.final_count = 0

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind not in ("net.block", "net.vote", "net.final"):
            return
        height = entry.fields["height"]
        wanted = self.final_count + 1
        self.judge(entry, holds=height == wanted, what=f"height {height} where {wanted} is due")
        if entry.kind == "net.final":
            self.final_count = height


class Blocks(Invariant):
    """Names of blocks."""

    number, title = "N3", "every block recomputes to its name"
    kinds = frozenset({"net.block"})

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "net.block" and "block" in entry.fields:
            found = sha256(canonical.encode(entry.fields["block"])).hexdigest()
            self.judge(
                entry, holds=found == entry.fields["sha256"],
                what=f"is named {entry.fields['sha256']}, its bytes say {found}",
            )  # fmt: skip


class Votes(Invariant):
    """One vote a height, and for what was seen."""

    number, title = "N4", "a node votes once a height, for the block that it had written down"
    kinds = frozenset({"net.block", "net.vote", "net.final"})

    def __init__(self) -> None:
        super().__init__()
        self.block: str | None = None
        self.voted: dict[int, Mapping[str, Any]] = {}

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "net.block":
            self.block = entry.fields["sha256"]
        elif entry.kind == "net.final":
            self.block = None
        elif entry.kind == "net.vote":
            vote, height = entry.fields["vote"], entry.fields["height"]
            before = self.voted.setdefault(height, vote)
            what = ""
            if before != vote:
                what = f"two votes on height {height}"
            elif (vote["height"], vote["block"]) != (height, self.block):
                what = f"a vote for block {vote['block']}, the one seen is {self.block}"
            self.judge(entry, holds=not what, what=what)


class Certificates(Invariant):
    """What makes a block final."""

    number, title = "N5", "a final block has identical votes of different nodes, on what was seen"
    kinds = frozenset({"net.block", "net.vote", "net.final"})

    def __init__(self) -> None:
        super().__init__()
        self.blocks: set[str] = set()
        """Seen at this height: more than one where power failed before the other was final."""
        self.own: Mapping[str, Any] | None = None

    @override
    def see(self, entry: Entry) -> None:
        if entry.kind == "net.block":
            self.blocks.add(entry.fields["sha256"])
        elif entry.kind == "net.vote":
            self.own = entry.fields["vote"]
        elif entry.kind == "net.final":
            what = self.wrong(entry)
            self.judge(entry, holds=not what, what=what)
            self.blocks, self.own = set(), None

    def wrong(self, entry: Entry) -> str:
        """What is wrong with a final entry."""
        votes = entry.fields["votes"]
        nodes = [vote["node"] for vote in votes]
        subjects = {tuple(vote[name] for name in SUBJECT) for vote in votes}
        if len(set(nodes)) != len(nodes) or len(subjects) != 1:
            return f"{len(set(nodes))} nodes with {len(subjects)} different votes"
        height, block, _, _ = subjects.pop()
        if height != entry.fields["height"] or block not in self.blocks:
            seen = " and ".join(sorted(self.blocks)) or "none"
            return f"votes on block {block} at {height}, seen is {seen}"
        own = self.own
        if own is not None and own not in votes and own["node"] in nodes:
            return "the node's own vote in the certificate is not the one it wrote down"
        return ""


def of_nodes() -> tuple[Invariant, ...]:
    """All rules of a node's ledger."""
    return Form(), Heights(), Blocks(), Votes(), Certificates()
