"""Every code has a page; every page can be shown."""

import re
from pathlib import Path

from gateway.cli.error_pages import pages
from gateway.cli.output import MEANINGS, ExitCode

ROOT = Path(__file__).resolve().parents[3]
NUMBERED = re.compile(r"(?:document|self\.document|checked)\.(?:add|warn)\(\s*(\d+),")
GIVEN_TO = re.compile(r"_once\(document, \w+, [^\n]*?, (\d+), ")


def codes_in_use():
    """Codes written out anywhere, and the numbers the readers of files give their problems."""
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r'"([ABCDEGHILPRST][0-9]{3})"', text)
        if path.parent.name != "config":
            continue
        letters = (
            "C"
            if path.stem.startswith("site")
            else "P"
            if path.stem.startswith("profile")
            else "CP"
        )
        for number in (*NUMBERED.findall(text), *GIVEN_TO.findall(text)):
            yield from (f"{letter}{int(number):03d}" for letter in letters)


def test_every_code_in_use_has_a_page():
    used = set(codes_in_use())
    assert len(used) > 60
    assert used - pages().keys() == set()


def test_every_page_is_whole():
    for code, page in pages().items():
        assert re.fullmatch(r"[ABCDEGHILPRST][0-9]{3}", code)
        assert page.title, code
        assert page.why, code
        assert page.mend, code


def test_show_and_ls(sopgw):
    assert "Mend:" in sopgw("errors", "show", "p022").out
    assert sopgw("errors", "show", "C025", "--json").json["data"]["title"]
    assert sopgw("errors", "show", "X999", "--json").json["exit_code"] == 2
    rows = sopgw("errors", "ls", "--json").json["data"]["errors"]
    assert [r["code"] for r in rows] == sorted(pages())
    assert "P021" in sopgw("errors", "ls", "register").out


def test_exit_codes_are_listed_with_their_meaning(sopgw):
    rows = sopgw("errors", "show", "exit-codes", "--json").json["data"]["exit_codes"]
    assert {r["exit_code"] for r in rows} == {int(c) for c in ExitCode}
    assert set(MEANINGS) == set(ExitCode)
