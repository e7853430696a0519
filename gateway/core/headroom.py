"""What the Vdc master can carry: it has the others' sum and every loss, and keeps some free."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.model.terminal import Sop

SPARE_PERCENT = 2  # of the master's rating, left free by what is commanded


def within_master(
    sop: Sop,
    target_w: Mapping[str, int],
    fallback_w: Mapping[str, int],
    available_va: Mapping[str, int],
    feeder_w: int | None = None,
) -> dict[str, int]:
    """Take targets back towards a fallback as far as the master cannot carry their sum.

    ``feeder_w`` is what the master's feeder may carry where a system operator limits it. Where the
    fallback is too much as well (a master derated since) all are scaled alike.
    """
    master = sop.terminal(sop.master)
    room_w = available_va.get(sop.master, 0) - master.s_va * SPARE_PERCENT // 100
    room_w = min(room_w, feeder_w) if feeder_w is not None else room_w
    for base_w in (fallback_w, dict.fromkeys(target_w, 0)):
        ids = [t.id for t in sop.slaves]
        sum_w, base_sum_w = sum(target_w[t] for t in ids), sum(base_w[t] for t in ids)
        loss_w = sum(sop.losses.loss_w(p_w=target_w[t.id], s_va=t.s_va) for t in sop.slaves)
        loss_w += sop.losses.loss_w(p_w=sum_w, s_va=master.s_va)
        # What the slaves inject the master absorbs, and every loss besides.
        limit_w = max(0, room_w - loss_w) if sum_w > 0 else max(0, room_w)
        if abs(sum_w) <= limit_w:
            return dict(target_w)
        span_w = abs(sum_w - base_sum_w)
        step_w = limit_w - abs(base_sum_w) if sum_w * base_sum_w >= 0 else limit_w
        if 0 <= step_w < span_w:
            found = {
                t: base_w[t] + _toward_zero((target_w[t] - base_w[t]) * step_w, span_w) for t in ids
            }
            return {**target_w, **found}
    raise AssertionError("zero is always within")


def _toward_zero(product: int, divisor: int) -> int:
    return abs(product) // divisor * (1 if product >= 0 else -1)
