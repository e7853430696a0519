"""The usual form of a site file: idempotent, and never another meaning."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.config_text import formatted
from gateway.config.site_file import site_from_text
from gateway.config.site_shape import SiteShape

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"
ORDER = tuple(SiteShape.model_fields)


def test_blocks_in_order_with_their_comments():
    text = (
        "# the mode\r\nmode: on   \n\n\n# about\nversion: 1\nsite:\n  id: a\n\n\n  name: b\n# end\n"
    )
    assert formatted(text, ("version", "site", "mode")) == (
        "# about\nversion: 1\n\nsite:\n  id: a\n\n  name: b\n\n# the mode\nmode: on\n\n# end\n"
    )


def test_the_shipped_site_is_in_its_usual_form():
    assert formatted(BENCH.read_text(), ORDER) == BENCH.read_text()


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_disorder_comes_back_to_the_same_meaning(data):
    text = BENCH.read_text()
    blocks, current = [], []
    for line in text.splitlines():
        if line and line[0].isalpha() and current and any(x[:1].isalpha() for x in current):
            blocks.append(current)
            current = []
        current.append(line)
    blocks.append(current)
    shuffled = data.draw(st.permutations(blocks))
    blanks = data.draw(st.lists(st.sampled_from(["", " ", "\n\n"]), min_size=9, max_size=9))
    mixed = "\n".join(line + blanks[n % 9] for n, line in enumerate(x for b in shuffled for x in b))
    once = formatted(mixed, ORDER)
    assert formatted(once, ORDER) == once
    _document, site = site_from_text(once, path=BENCH)
    _document, before = site_from_text(text, path=BENCH)
    assert site.sha256 == before.sha256
    assert sorted(once.split()) == sorted(mixed.split()), "not a word is lost"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "x: 1"])
def test_small_texts(text):
    once = formatted(text, ORDER)
    assert formatted(once, ORDER) == once
