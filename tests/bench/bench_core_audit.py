"""How fast the auditor folds its invariants: ``python tests/bench/bench_core_audit.py``."""

import logging
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from dst.world import Setting, run  # noqa: E402

from ledger.audit.auditor import Fold  # noqa: E402
from ledger.audit.evidence import decoded  # noqa: E402
from ledger.log.canonical import encode  # noqa: E402


def main():
    """Audit the ledger of an hour in the simulation again and again."""
    logging.disable(logging.CRITICAL)
    leaves = [encode(e) for e in run(Setting(seed=2, minutes=60, faults=(), length_s=300)).entries]
    began, count = time.process_time(), 0
    while time.process_time() - began < 5:
        fold = Fold()
        for index, leaf in enumerate(leaves):
            fold.see(decoded(index, leaf))
        broken = [f.number for f in fold.findings() if not f.ok]
        count += len(leaves)
    took_s = time.process_time() - began
    print(
        f"{count / took_s:.0f} entries a second of CPU, ledger of {len(leaves)}, broken: {broken}"
    )


if __name__ == "__main__":
    main()
