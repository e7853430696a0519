"""A ledger holds no free text about persons: every text has a known place and a known shape."""

import logging
import re

import pytest
from dst.world import Setting, run

WORD = re.compile(r"[A-Za-z][A-Za-z0-9._:/+\- ]{0,40}")
HEX = re.compile(r"[0-9a-f]*")
BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
VERSION = re.compile(r"\d+\.\d+[\w.+\-]*")
SHAPES = {
    **dict.fromkeys(("sha256", "staged"), HEX),
    **dict.fromkeys(("payload", "key", "answer_key"), BASE64),
    **dict.fromkeys(("start", "end", "created"), INSTANT),
    "version": VERSION,
}
# Written by the program alone: numbers, names of devices, terminals and settings.
BY_THE_PROGRAM = {"detail", "cause"}
# What a person is named by: the process owner or the account, and nothing else.
USER = re.compile(r"uid:\d+|system-operator|[a-z][a-z0-9._\-]{0,31}")


@pytest.fixture(scope="module")
def entries():
    logging.disable(logging.CRITICAL)
    outcome = run(Setting(seed=5, minutes=8, length_s=60, gap_s=45))
    logging.disable(logging.NOTSET)
    return outcome.entries


def texts(value, place=""):
    """Every text of an entry with the name of its field."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, place)
    elif isinstance(value, str):
        yield place, value


def test_every_text_of_every_entry_has_a_shape(entries):
    kinds, strange = set(), []
    for entry in entries:
        kinds.add(entry["kind"])
        for place, text in texts(entry):
            if place in BY_THE_PROGRAM:
                continue
            shape = USER if place == "user" else SHAPES.get(place, WORD)
            if text and not shape.fullmatch(text):
                strange.append((entry["kind"], place, text[:40]))
    assert strange == []
    assert {"trade.received", "trade.accepted", "plan", "intent", "reading", "operator"} <= kinds


def test_a_market_message_has_no_field_for_a_person(entries):
    """What is kept of it is signed and of a closed form: unknown fields are refused."""
    import base64
    import json

    from gateway.market import schedule_document

    checked = 0
    for entry in entries:
        if entry["kind"] != "trade.received" or entry["retain"]:
            continue
        try:
            body = json.loads(base64.b64decode(entry["payload"]))["payload"]
            document = json.loads(base64.b64decode(body))
            root = document["Schedule_MarketDocument"]
        except (ValueError, KeyError, TypeError):
            continue  # junk and limits
        root["consumer.name"] = "somebody"
        found = schedule_document.read(json.dumps(document).encode(), site="sim")
        assert isinstance(found, list)
        assert "unknown_field" in [r.code.value for r in found]
        checked += 1
    assert checked > 3
