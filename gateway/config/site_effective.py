"""Everything of a site that decides, in base units: what its hash is over and people compare."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.config.secret_shape import SecretShape
from gateway.config.site_shape import SiteShape
from gateway.config.site_terminals import terminal_fields

if TYPE_CHECKING:
    from gateway.config.site_file import DeviceConfig, SopConfig


def canonical(value: Any) -> bytes:
    """Write JSON with one spelling: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def effective(
    found: SiteShape, devices: Sequence[DeviceConfig], sops: Sequence[SopConfig]
) -> dict[str, Any]:
    """Write what decides; secrets by name only, paths as written."""
    market, ledger = found.market, found.ledger
    return {
        "version": 1,
        "site": {"id": found.site.id, "name": found.site.name, "timezone": found.site.timezone},
        "mode": found.mode,
        "devices": {
            d.name: {
                "profile": d.profile.id,
                "profile_sha256": d.profile_sha256,
                "url": d.url,
                "unit": d.unit,
            }
            for d in devices
        },
        "sops": {c.sop.id: _effective_sop(c) for c in sops},
        "market": {
            "broker": market.broker,
            "username": market.username,
            "password": _secret_name(market.password),
            "ca": market.ca,
            "certificate": market.certificate,
            "key": _secret_name(market.key),
            "signers": [{"name": s.name, "key": s.key.hex()} for s in market.signers],
            "node": market.node.model_dump(exclude_none=True) if market.node else None,
            "required": market.required,
            "gate_s": market.gate,
            "horizon_s": market.horizon,
            "over_limit": market.over_limit,
        },
        "ledger": {
            "dir": ledger.dir,
            "origin": ledger.origin,
            "key": _secret_name(ledger.key),
            "passphrase": _secret_name(ledger.passphrase),
            "checkpoint_every_s": ledger.checkpoint.every,
            "witnesses": [{"url": w.url, "key": w.key} for w in ledger.witnesses],
            "policy": ledger.policy,
        },
        "runtime": {
            "scan_ms": found.runtime.scan,
            "meter_poll_ms": found.runtime.meter_poll,
            "clock": found.runtime.clock,
            "restarts": found.runtime.restarts,
        },
        "limits": {
            "dso_mask": found.limits.dso_mask,
            "operators": [{"name": o.name, "key": o.key.hex()} for o in found.limits.operators],
        },
        "web": found.web.model_dump() if found.web else None,
        "northbound": found.northbound.model_dump(),
        "access": {k: sorted(v) for k, v in found.access.model_dump().items()},
    }


def _effective_sop(config: SopConfig) -> dict[str, Any]:
    sop = config.sop
    by = {"converters": dict(config.converters)} if config.separate else {"station": config.station}
    return {
        **by,
        "master": sop.master,
        "throughput_w": sop.throughput_w,
        "v_dc_dv_nominal": config.v_dc_dv_nominal,
        "v_dc_dv_min": sop.v_dc_dv_min,
        "v_dc_dv_max": sop.v_dc_dv_max,
        "losses": {"a_ppm": sop.losses.a_ppm, "b_ppm": sop.losses.b_ppm, "c_ppm": sop.losses.c_ppm},
        "heartbeat": {
            "period_ms": config.heartbeat.period_ms,
            "device_timeout_ms": config.heartbeat.device_timeout_ms,
            "on_loss": config.heartbeat.on_loss,
        },
        "rearm": config.rearm,
        "terminals": terminal_fields(sop),
    }


def _secret_name(found: SecretShape | None) -> dict[str, str] | None:
    if found is None:
        return None
    return {"file": found.file} if found.file is not None else {"secret": str(found.secret)}
