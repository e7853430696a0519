"""Terminals as the effective configuration and the ledger carry them."""

from __future__ import annotations

from typing import Any

from gateway.config.site_reactive import reactive_fields
from gateway.model.terminal import Sop


def terminal_fields(sop: Sop) -> list[dict[str, Any]]:
    """Write every terminal of a soft open point, in base units."""
    return [
        {
            "id": t.id,
            "index": t.index,
            "domain": t.domain,
            "meter": t.meter,
            "s_va": t.s_va,
            "p_w_min": t.p_w_min,
            "p_w_max": t.p_w_max,
            "ramp_w_per_s": t.ramp_w_per_s,
            "v_dv_min": t.v_dv_min,
            "v_dv_max": t.v_dv_max,
            "reactive": reactive_fields(t.reactive),
        }
        for t in sop.terminals
    ]
