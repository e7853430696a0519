"""Decision to wire, from a ledger: ``python tests/bench/bench_core_wire.py LEDGER [FACTOR]``.

From the process image a decision was made on to the durable commit, after which OPERATE leaves;
instructions that wait for an instant of their own are left out. FACTOR is the bench's speed.
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from gateway.journal.ledger_journal import read_entries  # noqa: E402


def times_ms(entries, factor):
    """Real milliseconds from decision to commit of every instruction sent at once."""
    decided = {}
    for index, entry in entries:
        if entry["kind"] == "intent" and "utc_us" in entry.get("image", {}) and not entry["act_ms"]:
            decided[index] = entry["image"]["mono_us"]
        elif entry["kind"] == "commit" and entry["intent_index"] in decided:
            yield (entry["mono_us"] - decided[entry["intent_index"]]) / 1000 / factor


def main():
    ledger, factor = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    found = sorted(times_ms(read_entries(ledger), factor))
    if not found:
        raise SystemExit("no instruction stands in this ledger")
    at = {
        name: found[min(len(found) - 1, len(found) * per // 100)]
        for name, per in (("p50", 50), ("p99", 99))
    }
    print(
        f"{len(found)} instructions: p50 {at['p50']:.1f} ms, p99 {at['p99']:.1f} ms, worst {found[-1]:.1f} ms"
    )


if __name__ == "__main__":
    main()
