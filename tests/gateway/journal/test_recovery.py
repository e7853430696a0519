"""A start reads what another configuration left: open work of others is refused, a mode is kept."""

from dataclasses import replace

import pytest
from fakes.core import Book, make_site, make_sop

from gateway.core.state import State
from gateway.journal.recovery import check_open_work, mode_at_start
from gateway.model.errors import ConfigError


def config(site, mode="on"):
    terminals = [{"id": t.id, "domain": t.domain} for t in site.sop.terminals]
    return {"kind": "config", "config": {"mode": mode, "terminals": terminals}}


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
    book = Book()
    if trade:
        book.accept("a", *trade, 100_000)
    remembered = [(0, book.entries[0]), (1, config(make_site()))]
    state = folded(exchanged(), book.entries)
    check_open_work(folded(make_site(), book.entries), remembered)
    if refused:
        with pytest.raises(ConfigError, match="T3 is region-b and was region-c"):
            check_open_work(state, remembered)
    else:
        check_open_work(state, remembered)


def asked(mode):
    return {"kind": "operator", "verb": "mode", "arguments": {"mode": mode}}


def boot(*, clean):
    return {"kind": "boot", "clean": clean}


GOODBYE = {"kind": "mode", "mode": "on", "state": "OFF", "reasons": [{"code": "operator"}]}
SELF_TEST = {"kind": "mode", "mode": "blocked", "state": "INIT", "reasons": []}
CONFIG = config(make_site())


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([boot(clean=True), CONFIG, asked("blocked")], "blocked"),
        ([CONFIG, asked("blocked"), boot(clean=False), CONFIG], "blocked"),  # crashed twice
        ([CONFIG, asked("blocked"), asked("on")], "on"),
        ([CONFIG, asked("blocked"), GOODBYE], "on"),  # an orderly end: the file counts
        ([CONFIG, asked("blocked"), GOODBYE, {"kind": "operator", "verb": "test"}], "on"),
        ([asked("blocked"), boot(clean=True), CONFIG], "on"),
        ([config(make_site(), "test"), asked("blocked")], "on"),  # the file was changed since
        ([CONFIG, SELF_TEST], "on"),  # nobody asked for it
        ([], "on"),
    ],
)
def test_a_mode_that_a_person_set_outlives_a_crash(entries, expected):
    assert mode_at_start(list(enumerate(entries)), "on") == expected


def test_a_crash_grants_no_more_than_the_site_file():
    entries = [config(make_site(), "blocked"), asked("on")]
    assert mode_at_start(list(enumerate(entries)), "blocked") == "blocked"
