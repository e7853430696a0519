"""The order of plus and minus halves of a wiring check: balanced, random, changing often.

Random, because loads that switch in a rhythm would otherwise fall in step with the injection.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from gateway.commissioning.wiring import Half


def signs(halves_count: int, draw: Callable[[], float]) -> tuple[int, ...]:
    """Return as many +1 as −1 in random order, with a change at two borders of three or more.

    ``draw`` returns a number in [0, 1), as ``random.Random(seed).random`` does.
    """
    assert halves_count >= 2
    assert halves_count % 2 == 0, "as many plus as minus halves"
    while True:
        order = [1, -1] * (halves_count // 2)
        for last in range(halves_count - 1, 0, -1):  # Fisher and Yates
            other = int(draw() * (last + 1))
            order[last], order[other] = order[other], order[last]
        if 3 * sum(a != b for a, b in pairwise(order)) >= 2 * (halves_count - 1):
            return tuple(order)


def halves(
    order: tuple[int, ...], *, p_w: float, half_s: float, t_start_s: float = 0.0
) -> tuple[Half, ...]:
    """Lay the signs on the time axis."""
    return tuple(
        Half(
            t_start_s=t_start_s + k * half_s,
            t_end_s=t_start_s + (k + 1) * half_s,
            p_w=sign * p_w,
        )
        for k, sign in enumerate(order)
    )
