"""One line that must be the same everywhere: the swarm over the scenario's day.

    PYTHONPATH=. python3.12 tests/bench/bench_digest.py          # NumPy twin where installed

Runs on any Python from 3.11 with any NumPy, or none.
"""

import hashlib
import json
import sys
from pathlib import Path

from ledger.contracts import mopso
from ledger.contracts.requests import slot_problem
from ledger.contracts.requests_document import day_from

ROOT = Path(__file__).resolve().parents[2]


def main():
    try:
        import numpy

        from ledger.contracts.mopso_numpy import NumpyKernel as kernel  # noqa: N813

        with_numpy = numpy.__version__
    except ModuleNotFoundError:
        kernel, with_numpy = mopso.PureKernel, "none"
    day = day_from(json.loads((ROOT / "configs/rounds/six-suppliers-five-users.json").read_text()))
    answer = hashlib.sha256()
    for t in range(day.slot_count):
        problem = slot_problem(
            day,
            t,
            available_wh=[s.available_wh[t] for s in day.suppliers],
            needed_wh=[u.demand_wh[t] for u in day.users],
        )
        flow = mopso.solve(problem, prev_hash=bytes(32), kernel=kernel)
        answer.update(json.dumps(flow).encode())
    print(f"Python {sys.version.split()[0]}, NumPy {with_numpy}: {answer.hexdigest()[:32]}")


if __name__ == "__main__":
    main()
