"""Every hazard stands in the table once, and every test it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "hazards.md").read_text(encoding="utf-8")


def test_all_hazards_stand_in_order():
    assert re.findall(r"^\| (H\d\d) \|", TEXT, re.M) == [f"H{n:02}" for n in range(1, 57)]


def test_every_named_test_exists():
    named = set(re.findall(r"`(tests/[^`\s]+?\.py(?:::\w+)?)`", TEXT))
    assert len(named) > 25
    missing = []
    for name in sorted(named):
        path, _, function = name.partition("::")
        there = (ROOT / path).exists()
        if not there or (function and f"def {function}(" not in (ROOT / path).read_text()):
            missing.append(name)
    assert missing == []
