"""regions-1 files: several regions around one soft open point, from their data to settled trades.

Zeng et al. inside each region, Ji et al. between them: each region's exact solution gives its
offers, the round picks the levels, the trades come out as market documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import DocumentRefused, Mistake, Node, digest
from ledger.contracts.hco_document import TERMINAL_KEYS, TERMINAL_OPTIONS, round_from
from ledger.contracts.hco_settlement import outcome
from ledger.contracts.region_value import Region, offers_ucur
from ledger.contracts.requests_document import ENERGY_MAX_WH, day_from
from ledger.contracts.trade_document import RESOLUTION, Parties, documents_of

if TYPE_CHECKING:
    from ledger.contracts.hco import Round
    from ledger.contracts.requests import Day

CONTRACT = "regions-1"
REGION_KEYS = {"domain", "party", "terminal", "day", "to_users_km", "from_suppliers_km"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """The regions by terminal, and the round without their offers."""

    regions: dict[str, Region]
    round_document: dict[str, Any]
    frame: Round
    """The round with empty offers: everything but what the regions' data decide."""
    parties: Parties


def regions_from(value: Any) -> Regions:
    """Read a file of regions; raise DocumentRefused with every mistake in it."""
    mistakes: list[Mistake] = []
    top = Node(value, mistakes)
    top.fields(
        required={"contract", "site", "sop", "round", "regions"},
        optional={"created", "sender", "receiver", "currency", "note", "reconstructed"},
    )
    if not isinstance(value, dict):
        raise DocumentRefused(mistakes)
    top.at("contract").choice(CONTRACT)
    terminals: list[Any] = []
    regions: dict[str, Region] = {}
    domain: dict[str, str] = {}
    party: dict[str, str] = {}
    nodes = top.at("regions").items(low=2, high=64)
    for node in nodes:
        node.fields(required=REGION_KEYS, optional={"line_capacity_wh"})
        terminal = node.at("terminal")
        terminal.fields(required=TERMINAL_KEYS - {"offers"}, optional=TERMINAL_OPTIONS)
        name = terminal.at("id").name()
        domain[name], party[name] = node.at("domain").name(), node.at("party").name()
        region = _region(node, mistakes)
        if region is not None:
            regions[name] = region
        if isinstance(terminal.value, dict):
            terminals.append({**terminal.value, "offers": {}})
    inside = value.get("round")
    document = {**inside, "terminals": terminals} if isinstance(inside, dict) else {}
    frame = _prefixed(mistakes, "$.round", lambda: round_from({"contract": "hco-1", **document}))
    parties = Parties(
        site=top.at("site").name(),
        sop=top.at("sop").name(),
        created=_text(top, "created", frame.start if frame else ""),
        sender=_text(top, "sender", "market-1"),
        receiver=_text(top, "receiver", "gateway"),
        currency=_text(top, "currency", "CNY"),
        domain=domain,
        party=party,
    )
    if frame is not None:
        _check_slots(top, nodes, regions, frame)
    if mistakes or frame is None:
        raise DocumentRefused(mistakes)
    return Regions(regions=regions, round_document=document, frame=frame, parties=parties)


def _text(top: Node, key: str, default: str) -> str:
    return top.at(key).text() if top.has(key) else default


def _prefixed(mistakes: list[Mistake], path: str, read: Any) -> Any:
    """Read an enclosed document; its mistakes get the place where it stands."""
    try:
        return read()
    except DocumentRefused as refused:
        mistakes.extend(
            Mistake(path=path + mistake.path[1:], message=mistake.message)
            for mistake in refused.mistakes
        )
        return None


def _region(node: Node, mistakes: list[Mistake]) -> Region | None:
    day: Day | None = _prefixed(
        mistakes, f"{node.path}.day", lambda: day_from(node.at("day").value)
    )
    if day is None:
        return None
    widest = ENERGY_MAX_WH
    return Region(
        day=day,
        to_user_km=node.at("to_users_km").integers(count=len(day.users), low=0, high=10**5),
        from_supplier_km=node.at("from_suppliers_km").integers(
            count=len(day.suppliers), low=0, high=10**5
        ),
        line_capacity_wh=node.at("line_capacity_wh").integer(low=0, high=widest)
        if node.has("line_capacity_wh")
        else widest,
    )


def _check_slots(top: Node, nodes: list[Node], regions: dict[str, Region], frame: Round) -> None:
    if frame.interval_s not in RESOLUTION:
        top.at("round").at("interval").wrong("a trade lasts 1, 5 or 15 min")
    for node, region in zip(nodes, regions.values(), strict=False):
        if region.day.slot_count != 1 or region.day.slot_s != frame.interval_s:
            node.at("day").wrong(f"must have one slot of {frame.interval_s} s, as the round has")


def offers_of(regions: Regions) -> dict[str, dict[int, int]]:
    """Every region's offer list, by terminal."""
    frame = regions.frame
    return {
        terminal.id: offers_ucur(
            regions.regions[terminal.id],
            level_wh=frame.energy_wh(1),
            k_min=terminal.k_level_min,
            k_max=terminal.k_level_max,
        )
        for terminal in frame.terminals
    }


def settled(regions: Regions) -> dict[str, Any]:
    """From region data to the round, its outcome and the settled trade documents."""
    offers = offers_of(regions)
    document = {
        **regions.round_document,
        "contract": "hco-1",
        "terminals": [
            {**terminal, "offers": {str(k): v for k, v in offers[terminal["id"]].items()}}
            for terminal in regions.round_document["terminals"]
        ],
    }
    round_ = round_from(document)
    found = outcome(round_)
    result: dict[str, Any] = {
        "contract": CONTRACT,
        "round": document,
        "outcome": found,
        "documents": documents_of(found, regions.parties, interval_s=round_.interval_s),
    }
    result["digest"] = digest(result)
    return result
