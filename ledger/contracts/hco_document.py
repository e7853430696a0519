"""Round files of hco-1: the shape of interfaces, read strictly."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from typing import TYPE_CHECKING, Any, Literal, cast

from ledger.contracts.document import DocumentRefused, Mistake, Node
from ledger.contracts.hco import Losses, Round, Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVEL_MAX = 1000
"""Levels on each side of zero: S/1000 is finer than any converter holds its setpoint."""
TERMINALS_MAX = 1000
"""More terminals than any soft open point has; keeps every sum below 2**53."""

ROUND_KEYS = {"contract", "interval", "quantum_w", "terminals", "k_dc"}
ROUND_OPTIONS = {
    "wheeling_fee_per_kwh",
    "loss_price_per_kwh",
    "share",
    "compat",
    "deposits",
    "master",
    "losses",
    "reconstructed",
    "note",
}
TERMINAL_KEYS = {"id", "s_va", "k_min", "k_max", "offers"}
TERMINAL_OPTIONS = {"q_reserved_var", "k_previous", "ramp_levels", "mask"}
FRACTION = re.compile(r"0\.[0-9]{1,6}")
INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2})?Z")
"""The one form of an instant: Python's own reader takes more with each release."""
LEVEL_TEXT = re.compile(r"0|-?[1-9][0-9]{0,3}")


def interval_s_from(node: Node) -> tuple[str, str, int]:
    """Read an interval; give both instants as written and the seconds between them."""
    if not node.fields(required={"start", "end"}):
        return "", "", 900
    start, end = node.at("start"), node.at("end")
    first, last = _instant(start), _instant(end)
    if first is None or last is None:
        return "", "", 900
    seconds = (last - first).total_seconds()
    if not 0 < seconds <= 86_400 or seconds != int(seconds):
        end.wrong("must be 1 s to 24 h, in whole seconds, after the start")
        return "", "", 900
    return start.text(), end.text(), int(seconds)


def instant_ms(text: str) -> int:
    """Milliseconds since 1970 of an instant that was read before."""
    moment = dt.datetime.fromisoformat(text)
    return round(moment.timestamp() * 1000)


def _instant(node: Node) -> dt.datetime | None:
    text = node.text()
    try:
        moment = dt.datetime.fromisoformat(text) if INSTANT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        node.wrong("must be a UTC instant such as 2026-01-02T02:00Z")
        return None
    return moment


def round_from(value: Any) -> Round:
    """Read a round; raise DocumentRefused with every mistake in it."""
    mistakes: list[Mistake] = []
    top = Node(value, mistakes)
    top.fields(required=ROUND_KEYS, optional=ROUND_OPTIONS)
    if not isinstance(value, dict):
        raise DocumentRefused(mistakes)
    if top.has("contract"):
        top.at("contract").choice("hco-1")
    start, end, interval_s = interval_s_from(top.at("interval"))
    quantum_w = top.at("quantum_w").integer(low=1, high=10**9)
    if quantum_w * interval_s % 3600:
        top.at("quantum_w").wrong("times the interval must be a whole number of Wh")
    terminals = [_terminal(node) for node in top.at("terminals").items(low=2, high=TERMINALS_MAX)]
    terminals.sort(key=lambda terminal: terminal.id)
    for one, other in itertools.pairwise(terminals):
        if one.id == other.id:
            top.at("terminals").wrong(f"has the terminal {one.id!r} twice")
    _check_deposits(top, terminals)
    master = top.at("master").text() if top.has("master") else None
    if master is not None and master not in {terminal.id for terminal in terminals}:
        top.at("master").wrong(f"{master!r} is none of the terminals")
    share = top.at("share").choice("active", "all") if top.has("share") else "active"
    result = Round(
        start=start,
        end=end,
        interval_s=interval_s,
        quantum_w=quantum_w,
        terminals=tuple(terminals),
        k_dc_level=top.at("k_dc").integer(low=0, high=LEVEL_MAX * TERMINALS_MAX),
        wheeling_fee_ucur_per_kwh=_amount(top, "wheeling_fee_per_kwh"),
        loss_price_ucur_per_kwh=_amount(top, "loss_price_per_kwh"),
        share=cast("Literal['active', 'all']", share),
        compat=top.at("compat").flag() if top.has("compat") else False,
        master=master,
        losses=_losses(top.at("losses")) if top.has("losses") else None,
    )
    if mistakes:
        raise DocumentRefused(mistakes)
    return result


def _amount(top: Node, key: str) -> int:
    return top.at(key).integer(low=0, high=10**10) if top.has(key) else 0


def _losses(node: Node) -> Losses:
    """Read the coefficients: parts of the rating, as ppm or as decimal texts (``"0.004"``)."""
    node.fields(required={"a", "b", "c"})
    a, b, c = (_ppm(node.at(key)) for key in "abc")
    return Losses(a_ppm=a, b_ppm=b, c_ppm=c)


def _ppm(node: Node) -> int:
    if isinstance(node.value, str):
        if not FRACTION.fullmatch(node.value):
            node.wrong('must be ppm as an integer, or a text such as "0.004"')
            return 0
        return int(node.value[2:].ljust(6, "0"))
    return node.integer(low=0, high=1_000_000)


def _terminal(node: Node) -> Terminal:
    node.fields(required=TERMINAL_KEYS, optional=TERMINAL_OPTIONS)
    low = node.at("k_min").integer(low=-LEVEL_MAX, high=0)
    high = node.at("k_max").integer(low=0, high=LEVEL_MAX)
    mask = node.at("mask").integers(low=-LEVEL_MAX, high=LEVEL_MAX) if node.has("mask") else ()
    if 0 in mask:
        node.at("mask").wrong("level 0 can not be forbidden")
    return Terminal(
        id=node.at("id").name(),
        s_va=node.at("s_va").integer(low=1, high=10**10),
        q_reserved_var=_optional(node, "q_reserved_var", low=-(10**10), high=10**10) or 0,
        k_level_min=low,
        k_level_max=high,
        k_previous_level=_optional(node, "k_previous", low=-LEVEL_MAX, high=LEVEL_MAX) or 0,
        ramp_levels=_optional(node, "ramp_levels", low=0, high=2 * LEVEL_MAX),
        mask_levels=frozenset(mask),
        offers_ucur=offers_from(node.at("offers")),
    )


def _optional(node: Node, key: str, *, low: int, high: int) -> int | None:
    return node.at(key).integer(low=low, high=high) if node.has(key) else None


def offers_from(node: Node) -> Mapping[int, int]:
    """Read {level: amount}; an empty object is a region that did not reveal."""
    offers = {}
    for key, place in node.members():
        if not LEVEL_TEXT.fullmatch(key) or abs(int(key)) > LEVEL_MAX:
            place.wrong(f"the level {key!r} is not an integer from {-LEVEL_MAX} to {LEVEL_MAX}")
            continue
        offers[int(key)] = place.integer()
    if offers.get(0, 0) != 0:
        node.at("0").wrong("level 0 is worth 0 by definition")
    return offers


def _check_deposits(top: Node, terminals: list[Terminal]) -> None:
    """Refuse offers above the deposit.

    An offer is the most a terminal can ever pay, because its share of the surplus, from which
    the fees are already taken, is never negative.
    """
    if not top.has("deposits"):
        return
    deposits = {key: node.integer(low=0) for key, node in top.at("deposits").members()}
    offers = {terminal.id: terminal.offers_ucur for terminal in terminals}
    for unknown in sorted(set(deposits) - set(offers)):
        top.at("deposits").at(unknown).wrong("is none of the terminals")
    for index, node in enumerate(top.at("terminals").items()):
        name = node.value.get("id") if isinstance(node.value, dict) else None
        if not isinstance(name, str) or name not in offers:
            continue
        deposit = deposits.get(name, 0)
        for level, amount in sorted(offers[name].items()):
            if amount > deposit:
                place = Node(amount, node.mistakes, path=f"$.terminals[{index}].offers.{level}")
                place.wrong(f"offers {amount}, over the deposit of {deposit}")
