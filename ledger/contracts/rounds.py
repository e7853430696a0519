"""Commit–reveal rounds: offers stay sealed until the gate closes, so nobody moves last.

A round is opened by the operator with the terminals' capability. Regions commit to a hash of
their offers, reveal after the gate, and at clearing time every node computes the same outcome. A
region that does not reveal is left out. Time is the block's time, never a node's own clock.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any

from ledger.contracts.document import EXACT_MAX, DocumentRefused, Mistake, canonical
from ledger.contracts.hco import MICRO
from ledger.contracts.hco_document import instant_ms, offers_from, round_from
from ledger.contracts.hco_settlement import outcome
from ledger.contracts.trade_document import RESOLUTION

if TYPE_CHECKING:
    from ledger.contracts.document import Node
    from ledger.contracts.hco import Round
    from ledger.contracts.registry import Registry

SALT_LENGTH = 64
"""Hex digits of the salt: 32 bytes can not be guessed."""
OPEN_ROUNDS_MAX = 512
"""Five days of quarter hours ahead; rounds that are cleared do not count."""
UNREPORTED_ROUNDS_MAX = 1_024
"""Cleared rounds of one gateway without its report: a week of quarter hours is 672.

Its node shows it all of them at each poll; a gateway that is silent stops no rounds but its own.
"""
ROUNDS_KEPT_MAX = 16_384
"""In the state, finished ones too: eleven days of minutes. Time alone bounds them otherwise, and
a round that ends without a trade may be held again within seconds."""
AHEAD_DAYS_MAX = 31
"""A round stays open until its time comes: one with a mistyped year would stay for good."""
WORK_COUNT_MAX = 20_000_000
"""Transitions of the dynamic programme: some ten seconds on a slow machine, on every node."""


def work_count(round_: Round) -> int:
    """Most transitions that clearing a round can take.

    Prefixes whose values differ by less than a micro-currency are kept side by side, and a price of
    losses that is no whole number of thousandths makes such differences: so many at most.
    """
    price = round_.loss_price_ucur_per_kwh if round_.losses is not None else 0
    widest = sum(terminal.k_level_max for terminal in round_.terminals)
    narrowest = -sum(terminal.k_level_min for terminal in round_.terminals)
    reach = min(round_.k_dc_level, widest, narrowest)
    levels = sum(t.k_level_max - t.k_level_min + 1 for t in round_.terminals)
    return (reach + 1) ** 2 * levels * (MICRO // gcd(price, MICRO))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Seconds before the interval's start at which a round's phases end."""

    commit_s: int
    reveal_s: int
    clear_s: int


CLOCKS = {
    900: Clock(commit_s=300, reveal_s=240, clear_s=180),
    300: Clock(commit_s=90, reveal_s=75, clear_s=60),
    60: Clock(commit_s=90, reveal_s=75, clear_s=60),
}
"""Usual clocks by the interval's length; a gateway plans 30 s ahead and needs the trades before."""


def commitment(salt: str, offers: dict[str, int], *, party: str, round_id: str) -> str:
    """Hash that seals an offer list: SHA-256 over the salt and who offers what in which round.

    Whoever copied another party's seal could otherwise repeat its opening and so make the same
    offer without having known it.
    """
    sealed = {"offers": offers, "party": party, "round": round_id}
    return hashlib.sha256(bytes.fromhex(salt) + canonical(sealed)).hexdigest()


def open_round(node: Node, rounds: dict[str, Any], registry: Registry, now_ms: int) -> None:
    """Open a round; its document is an hco round whose terminals carry no offers."""
    node.fields(
        required={"kind", "round", "document"},
        optional={"clock", "gateway", "penalty_per_kwh", "tolerance_permille"},
    )
    name = node.at("round").name()
    if name in rounds:
        node.at("round").wrong(f"{name!r} is already open")
    gateway = node.at("gateway").name() if node.has("gateway") else ""
    _check_counts(node, rounds, gateway)
    if gateway and registry.role_of(gateway) != "gateway":
        node.at("gateway").wrong(f"{gateway!r} is no gateway")
    document = _document(node)
    penalty = node.at("penalty_per_kwh").integer(low=0) if node.has("penalty_per_kwh") else 0
    tolerance = (
        node.at("tolerance_permille").integer(low=0, high=1000)
        if node.has("tolerance_permille")
        else 5
    )
    if document is None:
        return
    read = round_from(document)
    if work_count(read) > WORK_COUNT_MAX:
        way_out = "coarser levels"
        if read.loss_price_ucur_per_kwh % MICRO:
            way_out += ", or a price of losses in whole thousandths"
        node.at("document").wrong(f"may take {work_count(read)} steps to clear: {way_out}")
    clock = _clock(node, read.interval_s)
    start_ms = instant_ms(read.start)
    _check_interval(node.at("document").at("interval"), read.interval_s, start_ms)
    if now_ms >= start_ms - 1000 * clock.commit_s:
        node.at("clock").wrong("the gate would already be closed")
    if start_ms > now_ms + 86_400_000 * AHEAD_DAYS_MAX:
        node.at("document").wrong(f"begins more than {AHEAD_DAYS_MAX} days ahead")
    parties = {t.id: registry.at_terminal(t.id) for t in read.terminals}
    for terminal in sorted(t for t, party in parties.items() if party is None):
        node.at("document").wrong(f"no party trades at {terminal!r}")
    _check_overlaps(node, rounds, set(parties), start_ms, instant_ms(read.end))
    if not node.mistakes:
        rounds[name] = {
            "document": document,
            "level_wh": read.energy_wh(1),
            "start_ms": start_ms,
            "commit_until_ms": start_ms - 1000 * clock.commit_s,
            "reveal_until_ms": start_ms - 1000 * clock.reveal_s,
            "clear_ms": start_ms - 1000 * clock.clear_s,
            "penalty": penalty,
            "tolerance": tolerance,
            "parties": parties,
            "gateway": gateway,
            "answers": {},
            "commits": {},
            "offers": {},
            "outcome": None,
        }


def _check_counts(node: Node, rounds: dict[str, Any], gateway: str) -> None:
    """Bound what the state holds, by what each round waits for."""
    if sum(found["outcome"] is None for found in rounds.values()) >= OPEN_ROUNDS_MAX:
        node.wrong(f"at most {OPEN_ROUNDS_MAX} rounds are open at once")
    unreported = sum(
        found["outcome"] is not None
        and found.get("actuals") is None
        and found["gateway"] == gateway
        for found in rounds.values()
    )
    if unreported >= UNREPORTED_ROUNDS_MAX:
        place = node.at("gateway") if gateway else node
        place.wrong(f"{unreported} of its rounds wait for a delivery report")
    if len(rounds) >= ROUNDS_KEPT_MAX:
        node.wrong(f"at most {ROUNDS_KEPT_MAX} rounds are kept, finished ones too")


def _check_interval(place: Node, interval_s: int, start_ms: int) -> None:
    """Only what a gateway takes: deposits would be bound for trades that nobody carries out."""
    if interval_s not in RESOLUTION:
        place.wrong("a trade lasts 1, 5 or 15 min")
    elif start_ms % (1000 * interval_s):
        place.at("start").wrong(f"must start on a boundary of {interval_s} s")


def _check_overlaps(
    node: Node, rounds: dict[str, Any], terminals: set[str], start_ms: int, end_ms: int
) -> None:
    """A terminal's capability is sold once: its trades of an interval would also share their ids.

    A round that ended without any trade may be held again.
    """
    for other, found in sorted(rounds.items()):
        if found["outcome"] is not None and not found["outcome"]["trades"]:
            continue
        until_ms = instant_ms(found["document"]["interval"]["end"])
        shared = sorted(terminals & set(found["parties"]))
        if shared and start_ms < until_ms and found["start_ms"] < end_ms:
            node.at("document").wrong(f"{other!r} has {shared[0]!r} in the same interval")


def _document(node: Node) -> dict[str, Any] | None:
    place = node.at("document")
    if not isinstance(place.value, dict) or not isinstance(place.value.get("terminals"), list):
        place.wrong("must be a round with terminals")
        return None
    if "deposits" in place.value:
        place.wrong("deposits stand in the registry")
    document = {
        **place.value,
        "terminals": [
            {**terminal, "offers": {}} if isinstance(terminal, dict) else terminal
            for terminal in place.value["terminals"]
        ],
    }
    try:
        round_from(document)
    except DocumentRefused as refused:
        node.mistakes.extend(
            Mistake(path=place.path + mistake.path[1:], message=mistake.message)
            for mistake in refused.mistakes
        )
        return None
    return document


def _clock(node: Node, interval_s: int) -> Clock:
    if not node.has("clock"):
        return CLOCKS.get(interval_s, CLOCKS[900])
    place = node.at("clock")
    place.fields(required={"commit_s", "reveal_s", "clear_s"})
    commit, reveal, clear = (
        place.at(key).integer(low=0, high=7 * 86_400) for key in ("commit_s", "reveal_s", "clear_s")
    )
    if not commit > reveal >= clear:
        place.wrong("must close the gate before the reveals end, and those before clearing")
    return Clock(commit_s=commit, reveal_s=reveal, clear_s=clear)


def commit(node: Node, rounds: dict[str, Any], party: str, now_ms: int) -> None:
    """Seal an offer list; a later commitment before the gate replaces an earlier one."""
    node.fields(required={"kind", "round", "hash"})
    found = _find(node, rounds, party)
    text = node.at("hash").text()
    if len(text) != SALT_LENGTH or any(c not in "0123456789abcdef" for c in text):
        node.at("hash").wrong("must be 64 lower-case hex digits")
    if found is not None and now_ms >= found["commit_until_ms"]:
        node.wrong("the gate is closed")
    if found is not None and not node.mistakes:
        found["commits"][party] = text


def reveal(node: Node, rounds: dict[str, Any], registry: Registry, party: str, now_ms: int) -> None:
    """Open a sealed offer list; refused when it differs or the deposit does not cover it."""
    node.fields(required={"kind", "round", "salt", "offers"})
    found = _find(node, rounds, party)
    if found is None:
        return
    if now_ms < found["commit_until_ms"]:
        node.wrong("too early: others could still commit")
    if now_ms >= found["reveal_until_ms"]:
        node.wrong("the reveal is over")
    if party in found["offers"]:
        node.wrong("already revealed")
    salt = node.at("salt").text()
    if len(salt) != SALT_LENGTH or any(c not in "0123456789abcdef" for c in salt):
        node.at("salt").wrong("must be 64 lower-case hex digits")
    offers_from(node.at("offers"))
    if node.mistakes:
        return
    offers = dict(node.at("offers").value)
    if party not in found["commits"]:
        node.wrong("nothing was committed")
        return
    name = node.at("round").value
    if found["commits"][party] != commitment(salt, offers, party=party, round_id=name):
        node.wrong("does not open the commitment")
        return
    needed = exposure_ucur(found, offers)
    if not registry.reserve(party, name, needed):
        free = registry.free_ucur(party)
        node.at("offers").wrong(f"may cost {needed}, over the free deposit of {free}")
        return
    found["offers"][party] = offers


def offered_in(rounds: dict[str, Any], party: str) -> list[str]:
    """Name the rounds, not settled yet, in which a party's offer counts."""
    return [
        name
        for name, found in rounds.items()
        if party in found["offers"] and found.get("actuals") is None
    ]


def _find(node: Node, rounds: dict[str, Any], party: str) -> dict[str, Any] | None:
    name = node.at("round").name()
    found: dict[str, Any] | None = rounds.get(name)
    if found is None:
        node.at("round").wrong(f"{name!r} is not open")
    elif party not in found["parties"].values():
        node.wrong(f"{party!r} does not trade in this round")
    elif found["outcome"] is not None:
        node.wrong("already cleared")
    return found


def _with_offers(found: dict[str, Any], offers: dict[str, Any]) -> dict[str, Any]:
    document = found["document"]
    return {
        **document,
        "terminals": [
            {**terminal, "offers": offers.get(found["parties"][terminal["id"]], {})}
            for terminal in document["terminals"]
        ],
    }


def exposure_ucur(found: dict[str, Any], offers: dict[str, int]) -> int:
    """The most an offer list can cost its party: its price, and the penalty for not delivering."""
    level_wh, penalty = found["level_wh"], found["penalty"]
    return max(
        (
            max(0, amount) + max(0, -int(level)) * level_wh * penalty // 1000
            for level, amount in offers.items()
        ),
        default=0,
    )


def clear(name: str, found: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Compute the outcome; reservations shrink to what it can still cost."""
    result = outcome(round_from(_with_offers(found, found["offers"])))
    found["outcome"] = result
    for terminal, party in found["parties"].items():
        sold_wh = max(0, -result["energy_wh"][terminal])
        exposed = max(0, result["transfers"][terminal]) + sold_wh * found["penalty"] // 1000
        if not registry.reserve(party, name, min(exposed, EXACT_MAX)):
            # Covered at the reveal by at least as much; nothing between can have taken it.
            raise AssertionError(f"{party} can not cover what it revealed")
    return result


def answer(node: Node, rounds: dict[str, Any], party: str) -> None:
    """Take a gateway's word on each trade of a cleared round: it will carry it out, or why not."""
    node.fields(required={"kind", "round", "trades"})
    found = for_gateway(node, rounds, party)
    if found is None:
        return
    if found["answers"]:
        node.wrong("already answered")
    answers: dict[str, Any] = {}
    for entry in node.at("trades").items():
        entry.fields(required={"trade_id", "accepted"}, optional={"reasons"})
        accepted = entry.at("accepted").value
        if not isinstance(accepted, bool):
            entry.at("accepted").wrong("must be true or false")
        reasons = entry.at("reasons").items(high=64) if entry.has("reasons") else []
        answers[entry.at("trade_id").text()] = {
            "accepted": accepted,
            "reasons": [reason.text() for reason in reasons],
        }
    wanted = {trade["id"] for trade in found["outcome"]["trades"]}
    if set(answers) != wanted or len(node.at("trades").items()) != len(wanted):
        node.at("trades").wrong("must name every trade of the round once")
    if not node.mistakes:
        found["answers"] = answers


def for_gateway(node: Node, rounds: dict[str, Any], party: str) -> dict[str, Any] | None:
    """Find a cleared round that waits for this gateway's word."""
    name = node.at("round").name()
    found: dict[str, Any] | None = rounds.get(name)
    if found is None or found["outcome"] is None:
        node.at("round").wrong(f"{name!r} is not cleared")
        return None
    if found.get("actuals") is not None:
        node.at("round").wrong(f"{name!r} is already settled")
        return None
    if found["gateway"] not in ("", party):
        node.at("round").wrong(f"{name!r} is carried out by {found['gateway']!r}")
        return None
    return found
