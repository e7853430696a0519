"""Leaves out faults of a failing seed as long as the same invariant still breaks."""

from .world import Setting, run


def shrunk(seed, minutes, *, runs_max=80, **setting):
    """Return the fewest faults found with which the seed still fails the same way."""
    first = run(Setting(seed=seed, minutes=minutes, **setting))
    word = first.broken[0].split(" at ")[0]
    faults, size, runs = first.faults, max(1, len(first.faults) // 2), 0
    while runs < runs_max:
        for start in range(0, len(faults), size):
            fewer = faults[:start] + faults[start + size :]
            runs += 1
            got = run(Setting(seed=seed, minutes=minutes, faults=fewer, **setting))
            if any(b.split(" at ")[0] == word for b in got.broken):
                faults = fewer
                break
        else:
            if size == 1:
                break
            size //= 2
    return faults
