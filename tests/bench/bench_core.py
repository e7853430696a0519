"""What a scan of the core costs, and what simulated deliveries miss: ``python tests/bench/bench_core.py``."""

import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from fakes.core import FIRST_MS, Book, make_image, make_sop, make_station  # noqa: E402

from gateway.core import decide  # noqa: E402
from gateway.model.interval import Interval  # noqa: E402
from gateway.model.terminal import Terminal  # noqa: E402


def terminals(count):
    return tuple(
        Terminal(
            id=f"T{k}", index=k - 1, domain=f"region-{k}", meter=f"m{k}", s_va=250_000,
            p_w_min=-230_000, p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3600, v_dv_max=4400,
        )
        for k in range(1, count + 1)
    )  # fmt: skip


def scan_us(terminal_count, trade_count, rounds=40, *, running=False):
    """CPU of one scan in µs, with trades spread over the next intervals.

    ``running``: in the middle of an interval, with the meters followed.
    """
    book = Book().adopted()
    site = replace(book.state.site, sop=make_sop(terminals=terminals(terminal_count)))
    book.state.site = site
    for k in range(trade_count):
        start_ms = FIRST_MS + 3_600_000 + k % 96 * 900_000
        interval = Interval(start_ms, start_ms + 900_000)
        book.accept(f"t{k}", f"T{k % terminal_count + 1}", f"T{(k + 1) % terminal_count + 1}", 4000,
                    interval=interval)  # fmt: skip
    known = make_station()
    station = replace(
        known,
        terminals=tuple(
            replace(known.terminals[0], id=f"T{k}") for k in range(1, terminal_count + 1)
        ),
    )
    if running:
        book.utc_us = FIRST_MS * 1000
        zero = {f"T{k}": 0 for k in range(1, terminal_count + 1)}
        index = book.plan(zero | {"T1": -1000, "T2": 1000})
        book.execute(zero | {"T2": 4000}, plan_index=index)
        for second in range(0, 300, 5):
            utc_us = book.utc_us + second * 1_000_000
            book.read(utc_us, **dict.fromkeys(zero, second))
        rows = (replace(t, p_w_set_active=4000 * (t.id == "T2")) for t in station.terminals)
        station = replace(station, terminals=tuple(rows), instruction_id=99, mono_us=2_000_000)
    at_ms = FIRST_MS + 300_000 * running
    image = make_image(at_ms=at_ms, station=station)
    decide.scan(book.state, image)
    began = time.process_time()
    for _ in range(rounds):
        decide.scan(book.state, image)
    return (time.process_time() - began) / rounds * 1e6


def main():
    print("| terminals | trades | µs idle | µs following |\n|---|---|---|---|")
    for terminal_count in (2, 4, 16, 64):
        for trade_count in (10, 1_000, 10_000):
            idle_us = scan_us(terminal_count, trade_count)
            busy_us = scan_us(terminal_count, trade_count, running=True)
            print(f"| {terminal_count} | {trade_count} | {idle_us:.0f} | {busy_us:.0f} |")


if __name__ == "__main__":
    main()
