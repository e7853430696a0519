"""Netting: trades of one interval become one signed energy per terminal; their sum is zero."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One trade in one interval: out of the seller's terminal, into the buyer's; never negative."""

    trade_id: str
    revision_number: int
    out_terminal: str
    in_terminal: str
    energy_wh: int

    def __post_init__(self) -> None:
        assert self.energy_wh >= 0
        assert self.out_terminal != self.in_terminal

    def sign_at(self, terminal: str) -> int:
        """+1 where the trade's energy enters the feeder, −1 where it leaves it, 0 elsewhere."""
        return (terminal == self.in_terminal) - (terminal == self.out_terminal)

    def within(self, terminals: Container[str]) -> bool:
        """Whether both ends are there still: a site may have lost one since it was accepted."""
        return self.in_terminal in terminals and self.out_terminal in terminals


def net(legs: Iterable[Leg], terminals: Sequence[str]) -> dict[str, int]:
    """Signed energy of each terminal in Wh: positive where the converter injects.

    Integers, so any order of the trades gives the same figures and the sum is exactly zero. Of a
    trade with an end that is not among the terminals nothing is counted.
    """
    position_wh = dict.fromkeys(terminals, 0)
    for leg in legs:
        if not leg.within(position_wh):
            continue
        position_wh[leg.in_terminal] += leg.energy_wh
        position_wh[leg.out_terminal] -= leg.energy_wh
    assert sum(position_wh.values()) == 0, "every trade leaves one feeder and enters another"
    return position_wh
