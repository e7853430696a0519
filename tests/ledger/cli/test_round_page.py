import json
from html.parser import HTMLParser
from pathlib import Path

from click.testing import CliRunner

from ledger.cli.settle import settle

ROUND = Path(__file__).resolve().parents[3] / "configs/rounds/four-terminals.json"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.count = {}

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        assert tag not in ("script", "link", "img", "iframe")
        assert not any(name in ("src", "href") for name, _ in attrs)


def test_the_page_shows_offers_prices_and_payments_and_fetches_nothing(tmp_path):
    file = tmp_path / "round.html"
    result = CliRunner().invoke(settle, ["hco", str(ROUND), "--html", str(file)])
    outcome = json.loads(result.stdout)
    text = file.read_text()
    tags = Tags()
    tags.feed(text)
    assert tags.count["svg"] == 3
    assert tags.count["polyline"] == 4
    assert outcome["digest"] in text
    for trade in outcome["trades"]:
        assert trade["id"] in text
