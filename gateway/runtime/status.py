"""What ``sopgw status`` and the live view show of a running gateway, as plain fields."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from typing import Any

from gateway.core.energy import Counters
from gateway.core.feeder import fields_of
from gateway.core.state import State
from gateway.ports import LedgerStatus
from gateway.runtime.loop import Scan
from gateway.runtime.orders import Orders
from gateway.runtime.telemetry import StationPoller


def status_fields(
    scan: Scan,
    poller: StationPoller,
    ledger: LedgerStatus,
    orders: Orders,
    alarms: list[dict[str, Any]],
    *,
    utc_us: int,
    broker_online: bool,
    answer_key: bytes,
    simulated: bool,
) -> dict[str, Any]:
    """Write the status; fields may be added, never changed."""
    state = scan.state
    now = state.moments[-1] if state.moments else None
    station = poller.last
    ratings = {t.id: t for t in state.site.sop.terminals}
    meters = _read_last(state)
    return {
        "site": state.site.site,
        "sop": state.site.sop.id,
        "utc_ms": utc_us // 1000,
        "simulated": simulated,
        "mode": state.mode,
        "state": now.state if now else "INIT",
        "reasons": [r.text() for r in now.reasons] if now else [],
        "armed": state.armed,
        "control": orders.holder(),
        "time_quality": scan.time_quality(),
        "answer_key": b64encode(answer_key).decode(),
        "alarms": [a["code"] for a in alarms if a["active"]],
        "alarm_rows": alarms,
        "broker_online": broker_online,
        "station_age_ms": poller.age_us() // 1000 if station else None,
        "heartbeat_ds": station.watchdog_remaining_ds if station else None,
        "v_dc_dv": station.v_dc_dv if station else None,
        "loss_w": station.loss_w if station else None,
        "terminals": [
            {
                "id": t.id,
                "domain": ratings[t.id].domain,
                "master": t.id == state.site.sop.master,
                "p_w": t.p_w,
                "p_w_set": state.held[t.id],
                "q_var": t.q_var,
                "v_dv": t.v_dv,
                "s_va": ratings[t.id].s_va,
                "p_w_min": ratings[t.id].p_w_min,
                "p_w_max": ratings[t.id].p_w_max,
                "meter_p_w": meters[t.id].p_w if t.id in meters else None,
                "state": t.state.name,
            }
            for t in (station.terminals if station else ())
        ],
        "feeder_limits": fields_of(state.feeder_limits) if state.feeder_limits else None,
        "open_intervals": len(state.plans),
        "scheduled_intervals": len(state.schedule),
        "high_water_ms": state.high_water_ms,
        "scans": scan.scans_count,
        "lead_us": scan.lead_us,
        "tasks": len(asyncio.all_tasks()),
        "memory_blocks": sys.getallocatedblocks(),
        "ledger": {
            "entries": ledger.size,
            "anchored": ledger.anchored,
            "anchored_size": ledger.anchored_size,
            "anchored_by": list(ledger.anchored_by),
            "contradiction": ledger.contradiction,
        },
    }


def _read_last(state: State) -> dict[str, Counters]:
    """The last reading of each terminal's meter; what one said that was exchanged since is none."""
    own = {t.id: t.meter for t in state.site.sop.terminals}
    said = {t: track[-1] for t, track in state.readings.items() if track}
    return {t: said[t] for t in said if state.meters.get(t) == own.get(t)}
