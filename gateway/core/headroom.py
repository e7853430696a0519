"""What the Vdc master can carry: it has the others' sum and every loss, and keeps some free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.core import feeder
from gateway.model.interval import Interval
from gateway.model.limits import FeederLimit, FeederLimits
from gateway.model.terminal import Sop, Terminal

SPARE_PERCENT = 2  # of the master's rating, left free by what is commanded


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterLimits:
    """What the master's terminal may carry, in W and none below zero."""

    out_w: int  # drawn from its feeder
    in_w: int  # fed into it

    @classmethod
    def of(cls, site: Terminal, sent: FeederLimit | None) -> MasterLimits:
        """The guard of the site by direction, and of a limit that was sent the narrower side.

        Its power is a residual that tracking moves both ways, and a feeder's limit is another's.
        """
        out_w, in_w = -site.p_w_min, site.p_w_max
        if sent is None:
            return cls(out_w=out_w, in_w=in_w)
        least_w = min(-sent.p_w_min, sent.p_w_max)
        return cls(out_w=min(out_w, least_w), in_w=min(in_w, least_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The SOP with the limits that hold during an interval, and its master's."""

    sop: Sop
    master: MasterLimits


def allowed_in(site: Sop, sent: FeederLimits | None, span: Interval) -> Allowed:
    """What may flow during an interval, by the site and by what a system operator sent."""
    own = feeder.at_terminals(sent, site, span).get(site.master)
    return Allowed(
        sop=feeder.narrowed(site, sent, span),
        master=MasterLimits.of(site.terminal(site.master), own),
    )


def within_master(
    sop: Sop,
    target_w: Mapping[str, int],
    fallback_w: Mapping[str, int],
    available_va: Mapping[str, int],
    limits: MasterLimits | None = None,
) -> dict[str, int]:
    """Take targets back towards a fallback as far as the master cannot carry their sum.

    ``limits`` are those of the master's own terminal; without them what it can carry is the only
    one. Where the fallback is too much as well (a master derated since) all are scaled alike.
    """
    zero = dict.fromkeys(target_w, 0)
    for base_w in (fallback_w, zero):
        sum_w, base_sum_w = (sum(p[t.id] for t in sop.slaves) for p in (target_w, base_w))
        limit_w = _limit_w(sop, target_w, available_va, limits)
        if abs(sum_w) <= limit_w:
            return dict(target_w)
        if base_w is fallback_w and abs(base_sum_w) > _limit_w(sop, base_w, available_va, limits):
            continue
        span_w = abs(sum_w - base_sum_w)
        step_w = limit_w - abs(base_sum_w) if sum_w * base_sum_w >= 0 else limit_w
        if 0 <= step_w < span_w:
            found = {
                t.id: base_w[t.id] + _toward_zero((target_w[t.id] - base_w[t.id]) * step_w, span_w)
                for t in sop.slaves
            }
            return {**target_w, **found}
    raise AssertionError("zero is always within")


def _limit_w(
    sop: Sop,
    powers_w: Mapping[str, int],
    available_va: Mapping[str, int],
    limits: MasterLimits | None,
) -> int:
    """What the others' sum may be in its direction: of what they inject the master has the loss."""
    master, sum_w = sop.terminal(sop.master), sum(powers_w[t.id] for t in sop.slaves)
    room_w = available_va.get(sop.master, 0) - master.s_va * SPARE_PERCENT // 100
    room_w = min(room_w, _most_w(limits, sum_w)) if limits else room_w
    return max(0, room_w - (_loss_w(sop, powers_w, sum_w) if sum_w > 0 else 0))


def carried(
    sop: Sop, powers_w: Mapping[str, int], available_va: Mapping[str, int]
) -> dict[str, int]:
    """Powers cut to what each terminal may and can carry now."""
    found = dict(powers_w)
    for t in sop.slaves:
        most_w = available_va.get(t.id, 0)
        found[t.id] = max(t.p_w_min, -most_w, min(powers_w[t.id], t.p_w_max, most_w))
    return found


def cut_to(
    sop: Sop,
    powers_w: Mapping[str, int],
    available_va: Mapping[str, int],
    limits: MasterLimits | None = None,
) -> dict[str, int]:
    """Powers cut to what each terminal and the master may and can carry now: all scaled alike."""
    own_w = carried(sop, powers_w, available_va)
    return within_master(sop, own_w, dict.fromkeys(powers_w, 0), available_va, limits)


def within_guards(sop: Sop, powers_w: Mapping[str, int]) -> bool:
    """Whether each slave's power is one that the last guard before the device lets pass."""
    return all(
        max(t.p_w_min, -t.s_va) <= powers_w[t.id] <= min(t.p_w_max, t.s_va) for t in sop.slaves
    )


def master_beyond_w(
    sop: Sop, powers_w: Mapping[str, int], available_va: Mapping[str, int], limits: MasterLimits
) -> int:
    """By how much the master carries more than it may or can now; negative where it has room."""
    sum_w = sum(powers_w[t.id] for t in sop.slaves)
    room_w = min(available_va.get(sop.master, 0), _most_w(limits, sum_w))
    return master_w(sop, powers_w) - room_w


def _most_w(limits: MasterLimits, sum_w: int) -> int:
    return limits.out_w if sum_w > 0 else limits.in_w


def master_w(sop: Sop, powers_w: Mapping[str, int]) -> int:
    """What the master carries besides: the others' sum, and every loss where it absorbs."""
    sum_w = sum(powers_w[t.id] for t in sop.slaves)
    return abs(sum_w) + (_loss_w(sop, powers_w, sum_w) if sum_w > 0 else 0)


def _loss_w(sop: Sop, powers_w: Mapping[str, int], sum_w: int) -> int:
    loss_w = sum(sop.losses.loss_w(p_w=powers_w[t.id], s_va=t.s_va) for t in sop.slaves)
    return loss_w + sop.losses.loss_w(p_w=sum_w, s_va=sop.terminal(sop.master).s_va)


def _toward_zero(product: int, divisor: int) -> int:
    return abs(product) // divisor * (1 if product >= 0 else -1)
