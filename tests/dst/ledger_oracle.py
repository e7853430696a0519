"""What the whole ledger of a run must say, by a sequential model that shares nothing with the core."""

import base64
import hashlib
import json

from gateway.config.site_reactive import reactive_fields
from gateway.model.interval import utc_ms_from

from .machine import UTC0_US
from .market import ANSWER_KEY, KEY

STEPPED_MOST = 0.8  # of the rating: nothing is left beyond it to catch up what steps take
QUIET_BEFORE_S, QUIET_AFTER_S = 150.0, 70.0


def config_of(site):
    """The ``config`` entry's content, as the gateway writes it."""
    sop = site.sop
    return {
        "site": site.site, "sop": sop.id, "master": sop.master, "mode": "on",
        "terminals": [
            {"id": t.id, "index": t.index, "domain": t.domain, "meter": t.meter, "s_va": t.s_va,
             "p_w_min": t.p_w_min, "p_w_max": t.p_w_max, "ramp_w_per_s": t.ramp_w_per_s,
             "v_dv_min": t.v_dv_min, "v_dv_max": t.v_dv_max,
             "reactive": reactive_fields(t.reactive)}
            for t in sop.terminals
        ],
        "throughput_w": sop.throughput_w, "v_dc_dv_min": sop.v_dc_dv_min,
        "v_dc_dv_max": sop.v_dc_dv_max,
        "losses": {"a_ppm": sop.losses.a_ppm, "b_ppm": sop.losses.b_ppm, "c_ppm": sop.losses.c_ppm},
        "signers": [{"name": "m", "key": base64.b64encode(KEY.public_key().public_bytes_raw()).decode()}],
        "required": 1, "gate_s": site.policy.gate_ms // 1000,
        "horizon_s": site.policy.horizon_ms // 1000, "over_limit": site.policy.over_limit,
        "rearm": site.rearm, "owner_id": site.owner_id,
        "ramp_permille_per_s": site.ramp_permille_per_s, **({"separate": True} if site.separate else {}),
        "answer_key": base64.b64encode(ANSWER_KEY.public_key().public_bytes_raw()).decode(),
    }  # fmt: skip


def check(world):
    """Judge the entries of a finished run."""
    entries = world.disk.entries
    _verdicts(world, entries)
    _quantities(world, entries)
    _readings(world, entries)
    _promptness(world, entries)
    _quiet_intervals(world, entries)


def _verdicts(world, entries):
    """Each message's verdict is the one a plain list of trades would give (H03–H06, I10–I12)."""
    newest, planned = {}, set()
    received = {i: e for i, e in enumerate(entries) if e["kind"] == "trade.received"}
    for i, e in enumerate(entries):
        if e["kind"] == "plan":
            planned.add(utc_ms_from(e["interval"]["start"]))
        if e["kind"] not in ("trade.accepted", "trade.refused"):
            continue
        accepted = e["kind"] == "trade.accepted"
        message = received[e["received_index"]]
        if "payload" not in message:
            continue
        wanted, trade = _expected(message, newest, world.site.policy.gate_ms)
        if wanted == "accept" and trade is not None and trade["start"] in planned:
            wanted, trade = "refuse: planned already", None
        world.oracle.check(
            accepted == (wanted == "accept"),
            "I10",
            f"entry {i} is {e['kind']} {e.get('reasons')}, a plain list says {wanted}",
        )
        if accepted and trade is not None:
            newest[trade["id"]] = trade


def _expected(message, newest, gate_ms):
    raw = base64.b64decode(message["payload"])
    try:
        envelope = json.loads(raw)
        body = base64.b64decode(envelope["payload"])
        keyid = envelope["signatures"][0]["keyid"]
        root = json.loads(body)["Schedule_MarketDocument"]
    except (ValueError, KeyError, TypeError):
        return "refuse: unreadable", None
    if keyid != hashlib.sha256(KEY.public_key().public_bytes_raw()).hexdigest():
        return "refuse: signer", None
    if message["retain"]:
        return "refuse: retained", None
    series = root["TimeSeries"][0]
    period = series["Period"]
    points = [p["quantity"] for one in period for p in one["Point"]]
    spans = [p["timeInterval"] for p in period]
    trade = {
        "id": series["marketAgreement.mRID"], "revision": int(root["revisionNumber"]),
        "start": min(utc_ms_from(s["start"]) for s in spans), "points": points,
        "in": series["in_Domain.mRID"], "out": series["out_Domain.mRID"],
    }  # fmt: skip
    old = newest.get(trade["id"])
    if old is not None and trade["revision"] <= old["revision"]:
        return "refuse: known", None
    start = min(trade["start"], old["start"]) if old else trade["start"]
    if start - message["utc_us"] // 1000 < gate_ms:
        return "refuse: late", None
    if old is None and not any(float(p) for p in points):
        return "refuse: orphan", None
    return "accept", trade


def _quantities(world, entries):
    """A plan carries the newest accepted revision, to the last Wh, and plans no more than that."""
    newest = {}
    for i, e in enumerate(entries):
        if e["kind"] == "trade.accepted":
            newest = {k: v for k, v in newest.items() if k[0] != e["trade_id"]}
            for p in e["positions"]:
                newest[e["trade_id"], p["interval"]["start"]] = p["energy_wh"]
        elif e["kind"] == "plan":
            start = e["interval"]["start"]
            wanted = {t: wh for (t, s), wh in newest.items() if s == start}
            got = {t["trade_id"]: t["contracted_wh"] for t in e["trades"]}
            world.oracle.check(got == wanted, "I13", f"plan {i}: {got} for {wanted}")
            over = [t for t in e["trades"] if not 0 <= t["planned_wh"] <= t["contracted_wh"]]
            world.oracle.check(not over, "I13", f"plan {i} plans more than was traded: {over}")
            for name, wh in e["planned_wh"].items():
                sign = sum(
                    t["planned_wh"] * ((t["in_terminal"] == name) - (t["out_terminal"] == name))
                    for t in e["trades"]
                )
                world.oracle.check(sign == wh, "I13", f"plan {i}: {name} {wh} for {sign}")


def _readings(world, entries):
    """After ``unknown`` nothing but zero before the device was read (I18)."""
    waiting = set()
    for i, e in enumerate(entries):
        if e["kind"] == "outcome" and e["outcome"] == "unknown":
            waiting.add(e["intent_index"])
        elif e["kind"] == "readback" and e["cause"] == "reconcile":
            waiting.discard(e["intent_index"])
        elif e["kind"] == "intent" and any(s["p_w"] for s in e["setpoints"]):
            world.oracle.check(
                not waiting, "I18", f"entry {i}: power while {sorted(waiting)} unknown"
            )


def _promptness(world, entries):
    """A verdict 2 s after its message, a report 15 min after its interval, while a life lasts."""
    received = {}
    for e in entries:
        if e["kind"] == "boot":
            received.clear()
        elif e["kind"] == "delivery":
            late_us = e["utc_us"] - utc_ms_from(e["interval"]["end"]) * 1000
            world.oracle.check(
                late_us < 900_000_000 + world.setting.minutes * 60e6, "L9", "report late"
            )


def quiet(world, from_s, to_s):
    return all(b < from_s or a > to_s for a, b in world.disturbed)


def _quiet_intervals(world, entries):
    """Far from any fault a plan is delivered and begins in time (L2, D16)."""
    for e in entries:
        if e["kind"] != "delivery":
            continue
        start_s = utc_ms_from(e["interval"]["start"]) / 1000 - UTC0_US / 1e6
        end_s = utc_ms_from(e["interval"]["end"]) / 1000 - UTC0_US / 1e6
        # What a fault left at the station may live as long as the interval it fell into.
        before_s = max(QUIET_BEFORE_S, world.length_s + 60.0)
        if start_s < before_s or not quiet(world, start_s - before_s, end_s + QUIET_AFTER_S):
            continue
        hours = (end_s - start_s) / 3600
        for t in e["terminals"]:
            if t["terminal"] == world.site.sop.master:
                continue
            if world.site.separate and abs(t["planned_wh"]) > STEPPED_MOST * 250_000 * hours:
                continue
            off_wh = abs(t["judged_wh"] - t["planned_wh"])
            width = 200 if world.site.separate else 500  # by steps
            part = 0.05 if world.site.separate and hours < 1 / 12 else 0.005  # of a minute by steps
            limit_wh = max(250_000 * hours / width, abs(t["planned_wh"]) * part, 3)
            world.oracle.check(
                t["metered_wh"] is not None and off_wh <= limit_wh,
                "D16",
                f"{e['interval']['start']} {t}: off by {off_wh} Wh",
            )
        late = [t for t in e["trades"] if t["status"] == "failed" and t["planned_wh"] > 3]
        world.oracle.check(not late, "I15", f"failed without a fault: {late}")
