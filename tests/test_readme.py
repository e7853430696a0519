"""What the pages show of the program is what the program prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"sopgw": "gateway", "sopledger": "ledger", "sopsim": "firmware_sim"}
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\$ (sopgw|sopledger|sopsim)((?: [a-z0-9-]+)*) --help\n(.*)", re.DOTALL)


def help_blocks(text):
    """Yield ``(program, words, shown)`` of every fenced block that begins with ``$ … --help``."""
    for block in FENCE.findall(text):
        found = COMMAND.fullmatch(block)
        if found:
            yield found[1], found[2].split(), found[3].rstrip()


def printed(program, words):
    run = subprocess.run(
        [sys.executable, "-m", PROGRAMS[program], *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
    )
    return run.stdout.rstrip()


BLOCKS = [
    (p.relative_to(ROOT), *b) for p in PAGES for b in help_blocks(p.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("page", "program", "words", "shown"), BLOCKS, ids=lambda v: str(v)[:40])
def test_a_help_block_is_what_the_program_prints(page, program, words, shown):
    assert shown == printed(program, words), f"in {page}: $ {program} {' '.join(words)} --help"


def test_blocks_are_found_and_differences_would_be_seen():
    text = "x\n```\n$ sopgw version --help\nUsage: old\n```\n```sh\nsopgw version --help\n```\n"
    assert list(help_blocks(text)) == [("sopgw", ["version"], "Usage: old")]
    assert printed("sopgw", ["version"]).startswith("Usage: ")
    assert BLOCKS, "docs/configuration.md shows the help of sopgw config"
