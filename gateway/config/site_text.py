"""A site in the words of people; secrets by place and size, never by content."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from gateway.config.site_file import Site
from gateway.model.units import kw_text

HIDDEN = "•••••"


def secrets_of(site: Site) -> list[dict[str, Any]]:
    """List the secrets with what can be said without reading them."""
    named = {"ledger.key": site.ledger.key_file}
    if site.market.password_file is not None:
        named["market.password"] = site.market.password_file
    return [{"key": key, **_secret(path)} for key, path in named.items()]


def _secret(path: Path) -> dict[str, Any]:
    try:
        found = path.stat()
    except OSError:
        return {"file": str(path), "present": False, "size_bytes": 0, "private": False}
    private = stat.S_IMODE(found.st_mode) & 0o077 == 0
    return {"file": str(path), "present": True, "size_bytes": found.st_size, "private": private}


def secret_text(secret: dict[str, Any]) -> str:
    """Write one secret: what it is, never what it says."""
    if not secret["present"]:
        return f"{secret['key']}: {HIDDEN} (missing: {secret['file']})"
    warning = "" if secret["private"] else "; readable by others: chmod 600"
    return f"{secret['key']}: {HIDDEN} ({secret['file']}, {secret['size_bytes']} bytes{warning})"


def site_text(site: Site, secrets: list[dict[str, Any]]) -> str:
    """Write the site as an engineer would say it."""
    lines = [f"{site.id} — {site.name}  ({site.timezone}, mode {site.mode})", "", "Devices"]
    for device in site.devices.values():
        lines.append(f"  {device.name:<12} {device.profile.id:<22} {device.url} unit {device.unit}")
    for config in site.sops:
        sop, own = config.sop, config.converters
        who = "a converter each terminal" if config.separate else f"station {config.station}"
        gives_up = "each converter gives" if config.separate else "station gives"
        lines += [
            "",
            f"{sop.id}  {who}, master {sop.master}, rearm {config.rearm}",
            f"  DC {sop.v_dc_dv_min / 10:g} to {sop.v_dc_dv_max / 10:g} V, "
            f"throughput {kw_text(sop.throughput_w)}, heartbeat every "
            f"{config.heartbeat.period_ms / 1000:g} s, {gives_up} up after "
            f"{config.heartbeat.device_timeout_ms / 1000:g} s and then {config.heartbeat.on_loss}",
        ]
        for t in sop.terminals:
            lines.append(
                f"  {t.id:<6} {t.domain:<16} "
                + (f"converter {own[t.id]:<10} " if own else "")
                + f"meter {t.meter:<10} {t.s_va / 1000:g} kVA, "
                f"absorbs up to {kw_text(-t.p_w_min)}, injects up to {kw_text(t.p_w_max)}, "
                f"ramp {t.ramp_w_per_s / 1000:g} kW/s"
            )
    market = site.market
    names = ", ".join(s.name for s in market.signers)
    lines += [
        "",
        f"Market  {market.broker}  {market.required_count} of {len(market.signers)} signatures "
        f"({names}), gate {market.gate_s} s, horizon {market.horizon_s // 3600} h, "
        f"over a limit: {market.over_limit}",
        *([f"Node    {market.node.url} as {market.node.party}"] if market.node else []),
        f"Ledger  {site.ledger.origin} in {site.ledger.dir}, checkpoint every "
        f"{site.ledger.checkpoint_every_s} s, {len(site.ledger.witnesses)} witnesses",
        f"Pace    scan {site.runtime.scan_ms} ms, meters {site.runtime.meter_poll_ms} ms",
        "",
        *(secret_text(s) for s in secrets),
        f"sha256  {site.sha256}",
    ]
    return "\n".join(lines)


def effective_text(site: Site) -> str:
    """Write everything that decides as JSON, and its hash."""
    body = json.dumps(site.effective, indent=2, ensure_ascii=False, sort_keys=True)
    return f"{body}\nsha256 {site.sha256}"
