"""Settled trades: what the market agreed, one position per market time unit."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.model.interval import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Energy of one trade in one interval, seller's feeder to buyer's feeder; never negative."""

    interval: Interval
    p_w: int
    energy_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A settled trade: ``out_`` sells (its feeder delivers), ``in_`` buys (its feeder receives).

    Power therefore flows out of the seller's feeder into the SOP (its terminal's P < 0) and out
    of the SOP into the buyer's feeder (its terminal's P > 0).
    Source: IEC 62325-451-2 Schedule_MarketDocument, in_Domain and out_Domain.
    """

    id: str
    revision_number: int
    sop: str
    out_domain: str
    in_domain: str
    positions: tuple[Position, ...]

    @property
    def cancelled(self) -> bool:
        """A revision whose every quantity is zero cancels the trade."""
        return all(p.p_w == 0 for p in self.positions)

    @property
    def start_ms(self) -> int:
        """First instant of delivery."""
        return min(p.interval.start_ms for p in self.positions)

    @property
    def end_ms(self) -> int:
        """First instant after delivery."""
        return max(p.interval.end_ms for p in self.positions)
