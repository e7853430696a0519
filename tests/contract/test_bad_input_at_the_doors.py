"""A short form of ``make fault-doors``: bad input at sockets, at HTTP doors, and in files."""

import importlib.util
from pathlib import Path

import pytest

from gateway.hmi import accounts

PATH = Path(__file__).resolve().parents[1] / "fault" / "fuzz_doors.py"
FILES = (
    "alarm-file", "plan-file", "trade-document", "schedule-xml", "node-file", "round-document",
    "accounts-file", "profile",
)  # fmt: skip


@pytest.fixture
def doors(monkeypatch):
    monkeypatch.setattr(accounts, "MEMORY_KIB", 64)  # as the campaign has it, and back again
    spec = importlib.util.spec_from_file_location("fuzz_doors", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_door(counts, name):
    """How many pieces were tried, and how many were answered."""
    found = [(what, n) for (door, what), n in counts.items() if door.startswith(name)]
    return sum(n for _, n in found), sum(n for what, n in found if "closed" not in what)


@pytest.mark.parametrize("name", ["page", "socket", "witness", "node"])
async def test_bad_input_gets_an_answer_or_a_closed_door_and_no_stack_trace(doors, name):
    counts = await doors.campaign(96, 7, (name,))
    tried, answered = of_door(counts, name)
    assert tried == 96
    assert answered > 0


@pytest.mark.parametrize("name", FILES)
async def test_a_bad_file_is_refused_and_the_good_one_taken_afterwards(doors, name):
    counts = await doors.campaign(24, 7, (name,))
    assert of_door(counts, name) == (24, 24)
    assert counts[name, "refused"] > 12
