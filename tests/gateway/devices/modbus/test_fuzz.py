import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[3] / "fault" / "fuzz_modbus.py"


@pytest.mark.parametrize("seed", range(4))
def test_no_mutated_reply_is_believed(seed):
    spec = importlib.util.spec_from_file_location("fuzz_modbus", PATH)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    counts, wrong = fuzz.run(5_000, seed)
    assert wrong is None
    # All ways out are taken, so the sample is not all noise or all truth.
    assert {"tcp accepted", "rtu accepted", "tcp exception", "rtu refused: crc"} <= set(counts)
    assert sum(counts.values()) == 10_000
