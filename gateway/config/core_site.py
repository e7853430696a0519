"""What of a site file the core decides with, and what of it stands in the ledger."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from dataclasses import replace
from typing import Any

from gateway.config.site_file import Site as SiteFile
from gateway.config.site_file import SopConfig
from gateway.config.site_terminals import terminal_fields
from gateway.core.state import Site
from gateway.core.verify import MarketPolicy

OWNER_ID_MAX = 0xFFFF


def core_site(site: SiteFile, config: SopConfig) -> Site:
    """Reduce the site file to what the core decides with.

    All terminals take one ramp, in 0.1 % of rating: the slowest guard's. Converters of their own
    count it in whole percent.
    """
    permille = min(t.ramp_w_per_s * 1000 // t.s_va for t in config.sop.terminals)
    permille -= permille % 10 if config.separate else 0
    terminals = tuple(
        replace(t, ramp_w_per_s=max(1, permille * t.s_va // 1000)) for t in config.sop.terminals
    )
    digest = hashlib.sha256(site.ledger.origin.encode()).digest()
    return Site(
        site=site.id,
        sop=replace(config.sop, terminals=terminals),
        policy=MarketPolicy(
            gate_ms=site.market.gate_s * 1000,
            horizon_ms=site.market.horizon_s * 1000,
            over_limit=site.market.over_limit,
        ),
        rearm=config.rearm,
        owner_id=int.from_bytes(digest[:2], "big") % OWNER_ID_MAX + 1,
        ramp_permille_per_s=permille,
        separate=config.separate,
    )


def config_fields(site: SiteFile, core: Site, answer_key: bytes) -> dict[str, Any]:
    """Write the ``config`` entry's content: what anybody needs to follow the decisions."""
    sop = core.sop
    return {
        "site": core.site,
        "sop": sop.id,
        "master": sop.master,
        "mode": site.mode,
        "terminals": terminal_fields(sop),
        "throughput_w": sop.throughput_w,
        "v_dc_dv_min": sop.v_dc_dv_min,
        "v_dc_dv_max": sop.v_dc_dv_max,
        "losses": {
            "a_ppm": sop.losses.a_ppm,
            "b_ppm": sop.losses.b_ppm,
            "c_ppm": sop.losses.c_ppm,
        },
        "signers": [
            {"name": s.name, "key": b64encode(s.key).decode()} for s in site.market.signers
        ],
        "operators": [
            {"name": o.name, "key": b64encode(o.key).decode()} for o in site.market.operators
        ],
        "required": site.market.required_count,
        "gate_s": site.market.gate_s,
        "horizon_s": site.market.horizon_s,
        "over_limit": site.market.over_limit,
        "rearm": core.rearm,
        "owner_id": core.owner_id,
        "ramp_permille_per_s": core.ramp_permille_per_s,
        "answer_key": b64encode(answer_key).decode(),
        # Only where it is so: sites with one station keep the fields they always had.
        **({"separate": True} if core.separate else {}),
    }
