"""What the devices hold on our word after an instruction: all of it, a part of a step, nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.core import stepped
from gateway.core.ramps import duration_ms
from gateway.core.records import Active, Fields, IntentRecord, Site
from gateway.model.reason import ReasonCode
from gateway.model.setpoint import Command

_STOP = Command.ENTER_STANDBY.name
REFUSED = {ReasonCode.SELECT_FAILED, ReasonCode.READBACK_DIFFERS, ReasonCode.DEVICE_REJECTED}


def active_of(site: Site, held_w: Mapping[str, int], intent: IntentRecord, entry: Fields) -> Active:
    """What is active once an instruction was executed, and how long its ramps take."""
    full = site.ramp_permille_per_s
    own = {t.id: intent.ramps.get(t.id, 0) or full for t in site.sop.slaves}
    return Active(
        instr_id=intent.instr_id,
        setpoints=dict(intent.setpoints),
        plan_index=intent.plan_index,
        utc_us=entry["utc_us"],
        mono_us=entry["mono_us"],
        boot_number=entry["boot"],
        ramp_ms=max(
            duration_ms(
                move_w=intent.setpoints.get(t.id, 0) - held_w[t.id],
                s_va=t.s_va,
                permille=own[t.id],
            )
            for t in site.sop.slaves
        ),
        ramps=own,
        slowed=any(permille < full for permille in own.values()),
        q_var=intent.q_var,
        stepping=bool(intent.toward),
        lost=intent.lost,
    )


def half_applied(
    site: Site, held_w: Mapping[str, int], intent: IntentRecord, entry: Fields
) -> Active | None:
    """What is active where only some of separate controllers took a step; None: something else."""
    active = entry.get("active", {})
    if not site.separate or not active:
        return None
    if not stepped.half_applied(site.sop, before=held_w, sent=intent.setpoints, held=active):
        return None
    whole = active_of(site, held_w, intent, entry)
    now_w = {t.id: active[t.id] for t in site.sop.slaves}
    return replace(whole, setpoints={**intent.setpoints, **now_w}, stepping=True)


def refusals_of_zero(before_count: int, intent: IntentRecord, entry: Fields) -> int:
    """How often in a row the device, asked to go to zero, answered and did not take it.

    A stop that was not carried out takes one back, so that a setpoint and a stop take turns.
    """
    if intent.command is not None:
        in_vain = entry.get("outcome") != "executed" and intent.command == _STOP
        return max(0, before_count - in_vain)
    refused = any(r["code"] in REFUSED for r in entry.get("reasons", ()))
    refused |= entry["kind"] == "readback" and entry.get("outcome") == "failed"
    return before_count + 1 if refused and intent.authority == "failsafe" else 0
