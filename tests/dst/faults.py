"""Faults of a run: drawn from its seed as a list, so that a shrinker can leave some out."""

from dataclasses import dataclass

KINDS = (
    "cut", "cut", "answers-lost", "late", "refuse", "garble", "tear", "mixed", "reboot", "local",
    "estop", "fault", "foreign", "clip", "derate", "meters", "crash", "crash", "crash-seam",
    "crash-seam", "machine", "step", "slow-disk", "broken-disk", "broker", "stall", "stop", "mode",
)  # fmt: skip
STANDING = ("frozen-meter", "frozen-meter", "frozen-counter", "frozen-station", "quit")
"""Kinds with a draw of their own, so that the others fall as they always did."""


UNITS = ("unit-cut", "unit-cut", "unit-reboot", "unit-local", "unit-frozen")
"""What happens to one of several converters; with a draw of its own too."""


@dataclass(frozen=True)
class Fault:
    at_s: float
    kind: str
    lasts_s: float
    size: int

    def __str__(self):
        return f"{self.at_s:.3f}s {self.kind} {self.lasts_s:.1f}s {self.size}"


def drawn(draw, *, until_s, gap_s, kinds=KINDS):
    """Faults until ``until_s``, one every ``gap_s`` on average; often close to boundaries."""
    found, at_s = [], 20.0
    while True:
        at_s += draw.expovariate(1 / gap_s)
        if at_s >= until_s:
            return found
        when_s = at_s
        if draw.random() < 0.5:  # where instructions are: about the start and end of an interval
            when_s = max(20.0, round(at_s / 60) * 60 + draw.uniform(-6, 6))
        lasts_s = draw.choice((0.3, 1, 2, 4, 6, 10, 25, 60))
        found.append(
            Fault(round(when_s, 3), draw.choice(kinds), lasts_s, draw.randrange(1, 1_000_000))
        )
