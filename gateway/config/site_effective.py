"""Everything of a site that decides, in base units: what its hash is over and people compare."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway.config.secret_shape import SecretShape
from gateway.config.site_shape import SiteShape


def canonical(value: Any) -> bytes:
    """Write JSON with one spelling: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def effective(
    found: SiteShape, *, devices: Mapping[str, Any], sops: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what decides; secrets by name only, paths as written."""
    market, ledger = found.market, found.ledger
    return {
        "version": 1,
        "site": {"id": found.site.id, "name": found.site.name, "timezone": found.site.timezone},
        "mode": found.mode,
        "devices": devices,
        "sops": sops,
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
            "tls": ledger.tls.model_dump(exclude_none=True) if ledger.tls else None,
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
        "log": found.log.model_dump(),
        "access": {k: sorted(v) for k, v in found.access.model_dump().items()},
    }


def _secret_name(found: SecretShape | None) -> dict[str, str] | None:
    if found is None:
        return None
    return {"file": found.file} if found.file is not None else {"secret": str(found.secret)}
