"""What happens in the demo: trades of five intervals, and what goes wrong in between."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.cli.demo_bench import REGIONS
from gateway.model.interval import Interval
from gateway.model.trade import Position, Trade

QUARTER_MS = 900_000
LINK_LOST_AFTER_MS = 180_000  # into the fourth interval
LINK_LOST_S = 300
ARM_AFTER_MS = 400_000  # when the operator comes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """One trade of the story: seller's and buyer's terminal, first interval, how many."""

    id: str
    out_terminal: str
    in_terminal: str
    p_w: int
    first_index: int
    count: int = 1


DEALS = (
    Deal(id="trd-001", out_terminal="T2", in_terminal="T3", p_w=120_000, first_index=0),
    Deal(id="trd-002", out_terminal="T4", in_terminal="T3", p_w=60_000, first_index=0),
    Deal(id="trd-003", out_terminal="T4", in_terminal="T2", p_w=40_000, first_index=0, count=2),
    Deal(id="trd-004", out_terminal="T3", in_terminal="T2", p_w=150_000, first_index=1),
    Deal(id="trd-005", out_terminal="T1", in_terminal="T4", p_w=80_000, first_index=1),
    Deal(id="trd-006", out_terminal="T2", in_terminal="T4", p_w=280_000, first_index=2),
    Deal(id="trd-007", out_terminal="T3", in_terminal="T1", p_w=150_000, first_index=2),
    Deal(id="trd-008", out_terminal="T3", in_terminal="T4", p_w=80_000, first_index=3),
    Deal(id="trd-009", out_terminal="T2", in_terminal="T3", p_w=100_000, first_index=4),
)
INTERVALS = 5
CURTAILED = "trd-006"
CUT = "trd-008"
DUPLICATE = "trd-001"
RETAINED = Deal(id="trd-010", out_terminal="T2", in_terminal="T3", p_w=50_000, first_index=1)


def intervals(first_ms: int) -> list[Interval]:
    """The demo's intervals."""
    starts = [first_ms + k * QUARTER_MS for k in range(INTERVALS)]
    return [Interval(start, start + QUARTER_MS) for start in starts]


def trade_of(deal: Deal, first_ms: int) -> Trade:
    """Write a deal as a settled trade."""
    chosen = intervals(first_ms)[deal.first_index : deal.first_index + deal.count]
    return Trade(
        id=deal.id,
        revision_number=1,
        sop="SOP-1",
        out_domain=REGIONS[deal.out_terminal],
        in_domain=REGIONS[deal.in_terminal],
        positions=tuple(
            Position(interval=i, p_w=deal.p_w, energy_wh=deal.p_w * QUARTER_MS // 3_600_000)
            for i in chosen
        ),
    )
