"""A short form of ``make fault-doors``: bad input at the page and at the operator's socket."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).resolve().parents[1] / "fault" / "fuzz_doors.py"


async def test_bad_input_gets_an_answer_or_a_closed_door_and_no_stack_trace():
    spec = importlib.util.spec_from_file_location("fuzz_doors", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = await module.campaign(160, seed=7, opcua=False)
    assert sum(counts.values()) == 2 * 160
    assert counts["page", "answered"] > 80
    assert counts["socket", "answered"] > 80
