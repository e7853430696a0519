"""What docs/trade-document.md shows and lists is what the gateway reads."""

import json
import re
from pathlib import Path

from signed_trades import trade

from gateway.market import limits_document, schedule_reader
from gateway.market.schedule_document import Document, parse, read
from gateway.market.schedule_model import CODE_LISTS
from gateway.market.topics import Topics
from gateway.model.limits import FeederLimits

TEXT = (Path(__file__).parents[3] / "docs" / "trade-document.md").read_text()
EXAMPLES = re.findall(r"```json\n(.*?)```", TEXT, flags=re.DOTALL)


def rows(heading):
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]


def test_the_example_is_the_trade_it_says():
    document = read(EXAMPLES[0].encode(), site="bench4")
    assert isinstance(document, Document)
    assert document.trades == (trade(),)
    assert document.series[0].buyer == "U3"
    assert document.trades[0].positions[0].energy_wh == 30_000


def test_every_field_that_must_be_there_must_be_there_and_no_other():
    for heading, place, known in (
        ("Fields of the document", (), schedule_reader._DOCUMENT_FIELDS),
        ("Fields of a trade (`TimeSeries`)", ("TimeSeries", 0), schedule_reader._SERIES_FIELDS),
    ):
        listed = rows(heading)
        assert [row[0] for row in listed] == list(known)
        for name, must, *_ in listed:
            document = json.loads(EXAMPLES[0])
            inner = document["Schedule_MarketDocument"]
            for step in place:
                inner = inner[step]
            del inner[name]
            refused = not isinstance(read(json.dumps(document).encode()), Document)
            assert refused == (must != "no"), name


def test_every_code_is_listed_with_its_meaning():
    listed = [tuple(row) for row in rows("Codes")]
    assert listed == [(f, c, m) for f, codes in CODE_LISTS.items() for c, m in codes.items()]


def test_the_limits_example_is_read():
    (example,) = (e for e in EXAMPLES if "sopgw/v1/limits" in e)
    found = limits_document.parse(example.encode(), site="bench4", sop="SOP-1")
    assert isinstance(found, FeederLimits)


def test_the_topics_are_those_of_the_code():
    topics = Topics(site="<site>".strip("<>"), sop="sop")
    listed = [row[0].replace("<site>", "site").replace("<sop>", "sop") for row in rows("Topics")]
    assert listed == [
        topics.trades,
        topics.limits,
        topics.acknowledgement("id").replace("/id/", "/<id>/"),
        topics.delivery("id").replace("/id/", "/<id>/"),
        topics.availability,
    ]


def test_powers_are_multiples_as_said():
    for resolution, multiple in (("PT15M", 4), ("PT5M", 12), ("PT1M", 60)):
        step_ms = schedule_reader.RESOLUTIONS_MS[resolution]
        assert multiple * step_ms % 3_600_000 == 0
        assert multiple // 2 * step_ms % 3_600_000 != 0
    assert parse(EXAMPLES[0].replace('"120"', '"120.002"').encode())[0].code == "energy_not_whole"
