"""What a node writes into its own ledger, and how it finds its place again after a start.

Order matters: a block and this node's vote on it are durable before the vote leaves the machine,
so that no restart can make a node vote twice on one height.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from ledger.contracts.market import Market
from ledger.log.canonical import CanonicalError, decode, encode
from ledger.network.block import BLOCK_BYTES_MAX, block_document, block_hash
from ledger.network.message import vote_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ledger.contracts.market import Effects
    from ledger.network.message import Sign, Vote
    from ledger.network.replica import Replica

ERRORS_KEPT = ((5, 200), (1, 80), (0, 0))
"""Reasons of a refusal in the ledger and their length; fewer where a block has many refusals."""
PARTY_LENGTH_MAX = 64
"""No party has a longer name."""


class Append(Protocol):
    """Where entries become durable."""

    async def append_many(self, leaves: Sequence[bytes], /) -> list[int]:
        """Return the entries' indexes once they are on disk."""
        ...


class ReplayDiffers(Exception):  # noqa: N818 - a state of the node's ledger
    """The node's own ledger does not lead to what it says it signed."""


def _block_entry(height: int, raw: bytes) -> bytes:
    """A block as it stands in the ledger; of rubbish, which executes as nothing, only its name."""
    entry: dict[str, Any] = {"kind": "net.block", "height": height, "sha256": block_hash(raw)}
    if len(raw) <= BLOCK_BYTES_MAX:
        with suppress(CanonicalError):
            entry["block"] = block_document(raw)
    return encode(entry)


def voted(raw: bytes, vote: Vote) -> list[bytes]:
    """Entries before a vote leaves: the block as it was seen, and the vote."""
    height = vote.height
    return [
        _block_entry(height, raw),
        encode({"kind": "net.vote", "height": height, "vote": vote.document()}),
    ]


def finished(
    height: int, raw: bytes | None, certificate: list[dict[str, Any]], effects: Effects
) -> list[bytes]:
    """Entries of a final block; ``raw`` where it is not the one this node had voted on."""
    leaves = []
    if raw is not None:
        leaves.append(_block_entry(height, raw))
    leaves.append(_final_entry(height, certificate, effects))
    return leaves


def _final_entry(height: int, certificate: list[dict[str, Any]], effects: Effects) -> bytes:
    """A final block with as much of why messages were refused as an entry holds.

    Whoever proposes blocks decides what stands in them, so no block may give an entry that can not
    be written: it would stop every node, and again at each start.
    """
    entry = {"kind": "net.final", "height": height, "votes": certificate}
    for errors_max, length_max in ERRORS_KEPT:
        with suppress(CanonicalError):
            return encode({**entry, "effects": _summary(effects, errors_max, length_max)})
    accepted = {"accepted": effects.accepted, "refused": [], "cleared": [], "settled": []}
    return encode({**entry, "effects": accepted})


def _summary(effects: Effects, errors_max: int, length_max: int) -> dict[str, Any]:
    """What a final block did, for the ledger's readers; the state itself says the rest."""
    named = [refusal for refusal in effects.refused if 0 < len(refusal.party) <= PARTY_LENGTH_MAX]
    summary: dict[str, Any] = {
        "accepted": effects.accepted,
        "refused": [
            {
                "message": refusal.message,
                "party": refusal.party,
                "errors": [
                    f"{m.path}: {m.message}"[:length_max] for m in refusal.mistakes[:errors_max]
                ],
            }
            for refusal in named
        ],
        "cleared": effects.cleared,
        "settled": effects.settled,
    }
    rubbish = len(effects.refused) - len(named)
    return {**summary, "no_messages": rubbish} if rubbish else summary


def snapshot_document(replica: Replica, index: int) -> dict[str, Any]:
    """The last final state, with the place of its ``net.final`` entry in the ledger."""
    return {
        "height": replica.height,
        "head": replica.head,
        "index": index,
        "state": replica.market.snapshot(),
    }


def restore(replica: Replica, document: dict[str, Any], leaf: bytes) -> None:
    """Start from a kept state instead of the ledger's beginning; raise ReplayDiffers if it lies.

    The state is only a shortcut: it must be what a quorum signed in the ledger's own entry.
    """
    entry: dict[str, Any] = decode(leaf)
    height = document["height"]
    if entry.get("kind") != "net.final" or entry["height"] != height:
        raise ReplayDiffers(f"the kept state of height {height} has no final entry")
    market = Market(document["state"])
    good = _certified(replica, height, entry["votes"], document["head"], market.root())
    if good < replica.committee.quorum:
        raise ReplayDiffers(f"the kept state of height {height} is not what the nodes signed")
    replica.market, replica.height, replica.head = market, height, document["head"]


def _certified(
    replica: Replica, height: int, votes: list[dict[str, Any]], block: str, state: str
) -> int:
    """Count the nodes whose signatures say that this block led to this state."""
    committee = replica.committee
    return len(
        {
            vote.node
            for document in votes
            if (vote := vote_from(committee.market, document, committee.keys)) is not None
            and (vote.height, vote.block, vote.state) == (height, block, state)
        }
    )


def replay(replica: Replica, leaves: Iterable[bytes], key: Sign) -> None:
    """Bring a fresh replica to where its ledger ends; raise ReplayDiffers when it can not.

    More than one block may stand at a height: a final one that this node had not voted on, even
    without its final entry where power failed between the two.
    """
    blocks: dict[str, bytes] = {}
    vote: dict[str, Any] | None = None
    for leaf in leaves:
        entry: dict[str, Any] = decode(leaf)
        kind, height = entry.get("kind"), entry.get("height")
        if kind not in ("net.block", "net.vote", "net.final"):
            continue
        if height != replica.height + 1:
            raise ReplayDiffers(f"an entry of height {height} after height {replica.height}")
        if kind == "net.block":
            blocks[entry["sha256"]] = encode(entry["block"]) if "block" in entry else b""
        elif kind == "net.vote":
            vote = entry["vote"]
        else:
            votes: list[dict[str, Any]] = entry["votes"]
            name = next((v["block"] for v in votes if v.get("block") in blocks), None)
            if name is None:
                raise ReplayDiffers(f"height {height} is final without its block")
            _finish(replica, blocks[name], name, votes)
            blocks, vote = {}, None
    if vote is not None:
        name, height = vote.get("block"), replica.height + 1
        if name not in blocks or replica.examine(blocks[name], key, name=name).document() != vote:
            raise ReplayDiffers(f"the vote of height {height} can not be repeated")


def _finish(replica: Replica, raw: bytes, name: str, votes: list[dict[str, Any]]) -> None:
    executed = replica.execute(raw, name=name)
    block, _, state = executed.subject
    if _certified(replica, replica.height + 1, votes, block, state) < replica.committee.quorum:
        raise ReplayDiffers(f"height {replica.height + 1} lacks a certificate for its state")
    replica.finish(executed)
