"""A start reads what another configuration left: open work of others is refused."""

from dataclasses import replace

import pytest
from fakes.core import Book, make_site, make_sop

from gateway.core.state import State
from gateway.journal.recovery import check_open_work
from gateway.model.errors import ConfigError


def configured(site):
    """The ``config`` entry of a run with this site."""
    rows = [{"id": t.id, "domain": t.domain, "index": t.index} for t in site.sop.terminals]
    return {"sha256": "", "config": {"mode": "on", "terminals": rows}}


def opened(*trade):
    """A ledger of the usual site with an open trade, and what a start remembers of it."""
    book = Book()
    book.add("config", **configured(make_site()))
    if trade:
        book.accept("a", *trade, 100_000)
    return book, [(0, book.entries[0])]


def exchanged():
    """The site with the regions behind T2 and T3 the other way round."""
    other = {"T2": "region-c", "T3": "region-b"}
    terminals = tuple(replace(t, domain=other.get(t.id, t.domain)) for t in make_sop().terminals)
    return replace(make_site(), sop=make_sop(terminals=terminals))


def folded(site, entries):
    state = State(site)
    for index, entry in enumerate(entries):
        state.fold(index, entry)
    return state


@pytest.mark.parametrize(
    ("trade", "refused"), [(None, False), (("T1", "T4"), False), (("T1", "T3"), True)]
)
def test_regions_are_not_exchanged_under_open_trades(trade, refused):
    book, remembered = opened(*(trade or ()))
    check_open_work(folded(make_site(), book.entries), remembered)
    state = folded(exchanged(), book.entries)
    if refused:
        with pytest.raises(ConfigError, match="T3 is region-b and was region-c"):
            check_open_work(state, remembered)
    else:
        check_open_work(state, remembered)


def placed(*order):
    """The site with its terminals at other places of the station."""
    sop = make_sop()
    terminals = tuple(replace(sop.terminal(t), index=k) for k, t in enumerate(order))
    return replace(make_site(), sop=replace(sop, terminals=terminals))


def test_a_terminal_with_open_work_keeps_its_place_at_the_station():
    book, remembered = opened("T1", "T3")
    moved = folded(placed("T1", "T3", "T4"), book.entries)  # the block of T2 was deleted
    with pytest.raises(ConfigError, match=r"T3 is number 1 at the station and was 2.*index: 2"):
        check_open_work(moved, remembered)
    check_open_work(folded(placed("T1", "T2", "T3"), book.entries), remembered)
    moved.site = replace(moved.site, separate=True)  # each has a controller of its own
    check_open_work(moved, remembered)


def test_a_terminal_that_came_back_as_anothers_is_refused_too():
    book, remembered = opened("T1", "T3")
    book.add("config", **configured(placed("T1", "T2", "T4")))  # one run without T3
    with pytest.raises(ConfigError, match="T3 is region-b and was region-c"):
        check_open_work(folded(exchanged(), book.entries), remembered)


def test_power_that_is_held_counts_as_open_work():
    book, remembered = opened()
    book.execute({"T2": 10_000, "T3": -10_000})
    with pytest.raises(ConfigError, match="T3 is number 1"):
        check_open_work(folded(placed("T1", "T3", "T2", "T4"), book.entries), remembered)
