"""A region's slot on the chain: the operator hands in a result, every node makes sure of it.

``exact`` is checked by its certificate, without a solver and in a fraction of a millisecond;
``mopso`` and ``request`` are computed again and must give the same bytes. The swarm's seed is a
beacon that only past blocks decide.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import DocumentRefused, Mistake
from ledger.contracts.requests_document import day_from, flaws_of, outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ledger.contracts.document import Node
    from ledger.contracts.requests import Day

BEACONS_KEPT_MAX = 4
"""A result may name one of so few past blocks: chances to grind the seed, but few."""
SLOTS_KEPT_MAX = 256
"""Results remembered in the state; the ledger keeps them all."""
REEXECUTED_CELLS_MAX = 2_000
"""Slots × suppliers × users that a node is asked to compute again for one message."""


def next_beacon(beacon: str, utc_ms: int, messages: Sequence[str]) -> str:
    """Beacon after a block."""
    return hashlib.sha256("\n".join([beacon, str(utc_ms), *messages]).encode()).hexdigest()


def take(node: Node, slots: dict[str, Any], order_kept: list[str], beacons: Sequence[str]) -> None:
    """Check a result and remember it; a wrong one is refused with what is wrong.

    ``order_kept`` holds the slots' names, oldest first: a table written canonically forgets it.
    """
    node.fields(required={"kind", "slot", "day", "result"})
    name = node.at("slot").name()
    if name in slots:
        node.at("slot").wrong(f"{name!r} is already settled")
    place = node.at("day")
    try:
        day = day_from(place.value)
    except DocumentRefused as refused:
        node.mistakes.extend(
            Mistake(path=place.path + mistake.path[1:], message=mistake.message)
            for mistake in refused.mistakes
        )
        return
    if day.prev_hash.hex() not in beacons:
        place.at("prev_hash").wrong("is none of the last beacons")
    result = node.at("result").value
    try:
        flaws = _flaws(day, result)
    except DocumentRefused as refused:
        flaws = [mistake.message for mistake in refused.mistakes]
    for flaw in flaws:
        node.at("result").wrong(flaw)
    if not node.mistakes:
        slots[name] = {key: result[key] for key in ("method", "f1", "f2", "unserved_wh", "digest")}
        order_kept.append(name)
        while len(order_kept) > SLOTS_KEPT_MAX:
            del slots[order_kept.pop(0)]


def _flaws(day: Day, result: Any) -> list[str]:
    """What is wrong with a result: its proof, or what computing it again gives."""
    method = result.get("method") if isinstance(result, dict) else None
    if method == "exact":
        return flaws_of(day, result)
    if method not in ("request", "mopso"):
        return ["the method is none of exact, mopso and request"]
    cells = day.slot_count * len(day.suppliers) * len(day.users)
    if cells > REEXECUTED_CELLS_MAX:
        return [f"{cells} cells to compute again, at most {REEXECUTED_CELLS_MAX}"]
    order = "cheapest" if result.get("order") == "cheapest" else "nearest"
    if outcome(day, method, order=order) != result:
        return ["computing it again gives another result"]
    return []
