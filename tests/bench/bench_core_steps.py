"""How many steps a change takes where each terminal has a controller of its own, by three rules.

python tests/bench/bench_core_steps.py [COUNT]: random changes between powers of three slaves that
leave the master 5 % of headroom, losses included. Counts, no times.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from fakes.core import make_sop

from gateway.core import stepped

SOP = make_sop()
SLAVES = [t.id for t in SOP.slaves]
S_VA = SOP.terminal(SOP.master).s_va
FULL = {t.id: t.s_va for t in SOP.terminals}
MANY = 20


def flow_w(powers_w):
    """What flows at the master: it absorbs what the others inject, and every loss."""
    sum_w = sum(powers_w[t] for t in SLAVES)
    loss_w = sum(SOP.losses.loss_w(p_w=powers_w[t], s_va=S_VA) for t in SLAVES)
    return abs(sum_w + loss_w + SOP.losses.loss_w(p_w=min(abs(sum_w), S_VA), s_va=S_VA))


def powers(draw):
    """Powers that leave 5 % of headroom."""
    while True:
        found = {t: draw.randint(-230_000, 230_000) for t in SLAVES} | {SOP.master: 0}
        if max(flow_w(found), abs(sum(found.values()))) <= S_VA * 95 // 100:
            return found


def rooms_w(from_w, to_w):
    """What the sum may be upwards and downwards, with the largest losses on the way."""
    highest = {t: max(abs(from_w[t]), abs(to_w[t])) for t in SLAVES}
    loss_w = sum(SOP.losses.loss_w(p_w=highest[t], s_va=S_VA) for t in SLAVES)
    return S_VA - loss_w - SOP.losses.loss_w(p_w=S_VA, s_va=S_VA), S_VA


def by_all_moves(from_w, to_w):
    """ceil(sum of all moves / least headroom at the ends)."""
    up_w, _ = rooms_w(from_w, to_w)
    room_w = up_w - max(abs(sum(from_w.values())), abs(sum(to_w.values())))
    total_w = sum(abs(to_w[t] - from_w[t]) for t in SLAVES)
    return -(-total_w // room_w) if room_w > 0 else 10**6


def equal_and_safe(from_w, to_w):
    """The fewest equal steps of which every subset is safe."""
    moves = [to_w[t] - from_w[t] for t in SLAVES]
    up_w, down_w = sum(m for m in moves if m > 0), -sum(m for m in moves if m < 0)
    s0_w, s1_w = sum(from_w.values()), sum(to_w.values())
    most_w, least_w = rooms_w(from_w, to_w)
    pairs = (
        (up_w, most_w - s0_w),
        (down_w, most_w - s1_w),
        (down_w, least_w + s0_w),
        (up_w, least_w + s1_w),
    )
    return max(-(-w // room_w) if room_w > 0 else 10**6 for w, room_w in pairs if w)


def largest_part(from_w, to_w):
    """What the gateway does."""
    held, count = dict(from_w), 0
    while held != to_w:
        held |= stepped.next_step(SOP, from_w=held, to_w=to_w, available_va=FULL)
        count += 1
    return count


def main():
    """Count and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    draw = random.Random(11)
    changes = [(powers(draw), powers(draw)) for _ in range(count)]
    print(f"{count} changes: median, 95 %, 99 %, most, share of more than {MANY}")
    for rule in (by_all_moves, equal_and_safe, largest_part):
        counts = sorted(rule(*change) for change in changes)
        marks = [counts[min(count - 1, count * q // 100)] for q in (50, 95, 99, 100)]
        print(f"{rule.__name__}: {marks} {sum(c > MANY for c in counts) / count:.2%}")


if __name__ == "__main__":
    main()
