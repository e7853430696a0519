"""A mode that a person set is kept over a crash, however much was written since."""

from dataclasses import replace

import pytest
from fakes.core import Book, make_site

from gateway.core.kept_mode import KeptMode, after, at_start
from gateway.core.state import State


def config(mode="on"):
    return {"kind": "config", "config": {"mode": mode}}


def asked(mode):
    return {"kind": "operator", "verb": "mode", "arguments": {"mode": mode}}


def boot(*, clean):
    return {"kind": "boot", "clean": clean}


GOODBYE = {"kind": "mode", "mode": "on", "state": "OFF", "reasons": [{"code": "operator"}]}
SELF_TEST = {"kind": "mode", "mode": "blocked", "state": "INIT", "reasons": []}
OTHER = {"kind": "operator", "verb": "feeder-limits-refused", "arguments": {}}


def kept(entries):
    found = KeptMode()
    for entry in entries:
        found = after(found, entry)
    return found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([boot(clean=True), config(), asked("blocked")], "blocked"),
        ([config(), asked("blocked"), boot(clean=False), config()], "blocked"),  # crashed twice
        ([config(), asked("blocked"), asked("on")], "on"),
        ([config(), asked("blocked"), *[OTHER] * 5000], "blocked"),  # whatever a market sent since
        ([config(), asked("blocked"), GOODBYE], "on"),  # an orderly end: the file counts
        ([config(), asked("blocked"), GOODBYE, OTHER, boot(clean=False), config()], "on"),
        ([asked("blocked"), boot(clean=True), config()], "on"),
        ([config("test"), asked("blocked")], "on"),  # the file was changed since
        ([config(), SELF_TEST], "on"),  # nobody asked for it
        ([], "on"),
    ],
)
def test_a_mode_that_a_person_set_outlives_a_crash(entries, expected):
    assert at_start(kept(entries), "on") == expected


def test_a_crash_grants_no_more_than_the_site_file():
    assert at_start(kept([config("blocked"), asked("on")]), "blocked") == "blocked"


def test_the_state_keeps_it():
    book = Book()
    book.add("config", sha256="", config={"mode": "on"})
    book.add("operator", user="ann", verb="mode", arguments={"mode": "blocked"}, reason="")
    assert book.state.mode_kept == KeptMode(configured="on", asked="blocked")
    again = State(replace(make_site()))
    for index, entry in enumerate(book.entries):
        again.fold(index, entry)
    assert again.mode_kept == book.state.mode_kept
