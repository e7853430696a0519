"""A day in the life of a gateway, as entries: two trades, instructions, readings, deliveries."""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger.audit import delivery
from ledger.log import canonical

Entry = dict[str, Any]
MARKET = Ed25519PrivateKey.from_private_bytes(bytes(range(40, 72)))
T0_S = 1_767_319_200  # 2026-01-02T02:00:00Z
LENGTH_S = 900
METERS = {"T1": "m1", "T2": "m2", "T3": "m3"}
DOMAINS = {"T1": "region-0", "T2": "region-1", "T3": "region-2"}


def iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


def interval(number: int) -> dict[str, str]:
    start = T0_S + number * LENGTH_S
    return {"start": iso(start), "end": iso(start + LENGTH_S)}


def qualified(value: str) -> dict[str, str]:
    return {"codingScheme": "A01", "value": value}


def message(
    trade_id: str,
    energies_kwh: list[int],
    out: str,
    into: str,
    *,
    revision: int = 1,
    site: str = "bench",
    sop: str = "SOP-1",
) -> bytes:
    """A signed market document that contracts whole kWh in consecutive quarters of an hour."""
    series = {
        "mRID": "1",
        "marketAgreement.mRID": trade_id,
        "in_Domain.mRID": qualified(DOMAINS[into]),
        "out_Domain.mRID": qualified(DOMAINS[out]),
        "connectingLine_RegisteredResource.mRID": qualified(sop),
        "Period": [
            {
                "timeInterval": {"start": iso(T0_S), "end": iso(T0_S + len(energies_kwh) * 900)},
                "resolution": "PT15M",
                "Point": [
                    {"position": n, "quantity": str(4 * e)} for n, e in enumerate(energies_kwh, 1)
                ],
            }
        ],
    }
    document = {
        "mRID": "d1", "revisionNumber": str(revision), "domain.mRID": qualified(site),
        "TimeSeries": [series],
    }  # fmt: skip
    body = json.dumps({"Schedule_MarketDocument": document}).encode()
    kind = b"application/vnd.sop.schedule+json"
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)
    public = MARKET.public_key().public_bytes_raw()
    signed_message = {
        "payloadType": kind.decode(),
        "payload": b64encode(body).decode(),
        "signatures": [
            {
                "keyid": hashlib.sha256(public).hexdigest(),
                "sig": b64encode(MARKET.sign(signed)).decode(),
            }
        ],
    }
    return json.dumps(signed_message).encode()


CONFIG: dict[str, Any] = {
    "site": "bench", "sop": "SOP-1", "master": "T1", "throughput_w": 500_000,
    "terminals": [
        {"id": t, "index": n, "domain": DOMAINS[t], "meter": m, "s_va": 250_000,
         "p_w_min": -230_000, "p_w_max": 230_000, "ramp_w_per_s": 50_000}
        for n, (t, m) in enumerate(METERS.items())
    ],
    "losses": {"a_ppm": 4000, "b_ppm": 6000, "c_ppm": 6000},
    "signers": [
        {"name": "market-1", "key": b64encode(MARKET.public_key().public_bytes_raw()).decode()}
    ],
    "required": 1, "gate_s": 120, "horizon_s": 172_800, "over_limit": "curtail",
}  # fmt: skip


@dataclass
class Day:
    """Builds entries in order; times in seconds from the first interval's start."""

    entries: list[Entry] = field(default_factory=list)
    boot: int = 0
    wh: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METERS, 0.0))

    def add(self, kind: str, at_s: float, **fields: Any) -> int:
        entry = {
            "kind": kind, "utc_us": int((T0_S + at_s) * 1e6), "mono_us": int((1e5 + at_s) * 1e6),
            "boot": self.boot, "tq": "good", **fields,
        }  # fmt: skip
        self.entries.append(entry)
        return len(self.entries) - 1

    def start(self, at_s: float) -> None:
        before = [n for n, e in enumerate(self.entries) if e["kind"] == "boot"]
        self.boot += 1
        self.add("boot", at_s, version="0.1.0", site="bench", sop="SOP-1",
                 previous_boot_index=before[-1] if before else -1, clean=not before)  # fmt: skip
        digest = hashlib.sha256(canonical.encode(CONFIG)).hexdigest()
        self.add("config", at_s + 0.1, sha256=digest, config=CONFIG)
        self.add("mode", at_s + 0.2, mode="on", state="READY", reasons=[])

    def trade(
        self, at_s: float, trade_id: str, kwh: list[int], out: str, into: str, revision: int = 1
    ) -> None:
        payload = message(trade_id, kwh, out, into, revision=revision)
        received = self.add(
            "trade.received", at_s, topic="p2p/v1/bench/SOP-1/trades", retain=False,
            size=len(payload), sha256=hashlib.sha256(payload).hexdigest(),
            payload=b64encode(payload).decode(),
        )  # fmt: skip
        positions = [
            {"interval": interval(n), "p_w": e * 4000, "energy_wh": e * 1000}
            for n, e in enumerate(kwh)
        ]
        self.add("trade.accepted", at_s + 0.05, received_index=received, trade_id=trade_id,
                 revision=revision, out_terminal=out, in_terminal=into, positions=positions)  # fmt: skip

    def refuse(self, at_s: float) -> None:
        received = self.add("trade.received", at_s, topic="p2p/v1/bench/SOP-1/trades", retain=True,
                            size=2, sha256=hashlib.sha256(b"{}").hexdigest(),
                            payload=b64encode(b"{}").decode())  # fmt: skip
        self.add("trade.refused", at_s + 0.01, received_index=received, trade_id=None,
                 reasons=["retained"])  # fmt: skip

    def poll(self, at_s: float, power_w: Mapping[str, int], since_s: float) -> None:
        """One reading of all meters after energy has flowed for a while."""
        meters = []
        for terminal, meter in METERS.items():
            self.wh[terminal] += power_w.get(terminal, 0) * since_s / 3600
            net = round(self.wh[terminal])
            meters.append(
                {"meter": meter, "terminal": terminal, "utc_us": int((T0_S + at_s) * 1e6),
                 "import_wh": max(0, -net), "export_wh": max(0, net),
                 "p_w": power_w.get(terminal, 0), "quality": "good", "age_ms": 0, "registers": [1, 2]}
            )  # fmt: skip
        self.add("reading", at_s, meters=meters)

    def instruct(
        self, at_s: float, name: str, plan: int, power_w: Mapping[str, int], authority: str = "plan"
    ) -> None:
        setpoints = [
            {"terminal": t, "mode": "P_Q", "p_w": p, "q_var": 0} for t, p in power_w.items()
        ]
        number = zlib.crc32(name.encode())
        intent = self.add("intent", at_s, sop="SOP-1", instr_id=number, authority=authority,
                          plan_index=plan, setpoints=setpoints, ramp_permille_per_s=200, ttl_s=900,
                          staged="00ff", expires_mono_us=int((1e5 + at_s + 5) * 1e6))  # fmt: skip
        common = {"intent_index": intent, "instr_id": number}
        self.add("prepared", at_s + 0.1, **common)
        self.add("commit", at_s + 0.2, **common, reasons=[])
        self.add("outcome", at_s + 0.3, **common, outcome="executed",
                 active=dict(power_w), reasons=[])  # fmt: skip

    def plan(self, at_s: float, number: int, trades: list[dict[str, Any]]) -> int:
        wh = dict.fromkeys(METERS, 0)
        for one in trades:
            wh[one["in_terminal"]] += one["planned_wh"]
            wh[one["out_terminal"]] -= one["planned_wh"]
        setpoints = {t: 0 if t == "T1" else e * 4 for t, e in wh.items()}
        return self.add("plan", at_s, sop="SOP-1", interval=interval(number), setpoints=setpoints,
                        planned_wh=wh, trades=trades)  # fmt: skip

    def deliver(self, at_s: float, plan: int) -> int:
        planned = self.entries[plan]
        readings = [e for e in self.entries if e["kind"] == "reading"]
        found = delivery.settle(config=CONFIG, plan=planned, readings=delivery.counters(readings))
        return self.add(
            "delivery", at_s, sop="SOP-1", interval=planned["interval"],
            terminals=[
                {"terminal": t.terminal, "planned_wh": t.planned_wh, "metered_wh": t.metered_wh,
                 "judged_wh": t.judged_wh,
                 "flags": ["unmetered"] * (t.metered_wh is None) + ["estimated"] * t.estimated}
                for t in found.terminals.values()
            ],
            trades=[
                {"trade_id": t.trade_id, "contracted_wh": t.contracted_wh,
                 "planned_wh": t.planned_wh, "delivered_wh": t.delivered_wh, "status": t.status,
                 "reasons": []}
                for t in found.trades.values()
            ],
            loss_wh=found.loss_wh, unscheduled_wh=0,
        )  # fmt: skip


def full_day() -> Day:
    """Boot, two trades over two and one intervals, everything done and settled."""
    day = Day()
    day.start(-600)
    day.trade(-500, "A-1", [10, 20], "T1", "T2")
    day.trade(-450, "A-2", [5], "T3", "T2")
    day.refuse(-400)
    legs = {
        "A-1": {"trade_id": "A-1", "revision": 1, "out_terminal": "T1", "in_terminal": "T2"},
        "A-2": {"trade_id": "A-2", "revision": 1, "out_terminal": "T3", "in_terminal": "T2"},
    }
    whole = [[("A-1", 10_000), ("A-2", 5_000)], [("A-1", 20_000)]]
    power: dict[str, int] = {}
    before = -1
    day.poll(-5, power, 0)
    for number, legs_of in enumerate(whole):
        start = number * LENGTH_S
        trades = [
            {**legs[t], "contracted_wh": wh, "planned_wh": wh, "reasons": []} for t, wh in legs_of
        ]
        plan = day.plan(start + 0.01 if number else -4, number, trades)
        if not number:
            day.poll(0, power, 0)
        setpoints = day.entries[plan]["setpoints"]
        day.instruct(start + 0.02, f"i-{number}", plan, {t: setpoints[t] for t in ("T2", "T3")})
        power = {**{t: setpoints[t] for t in ("T2", "T3")}}
        power["T1"] = -sum(power.values()) - 2_000
        for second in range(60, LENGTH_S + 1, 60):
            day.poll(start + second, power, 60)
            if number and second == 60:
                day.deliver(start + 61, before)
        before = plan
    last = day.add("intent", 1800.1, sop="SOP-1", instr_id=77, authority="close", plan_index=-1,
                   setpoints=[{"terminal": t, "mode": "P_Q", "p_w": 0, "q_var": 0} for t in ("T2", "T3")],
                   ramp_permille_per_s=200, ttl_s=900, staged="00", expires_mono_us=int((1e5 + 1805) * 1e6))  # fmt: skip
    day.add("prepared", 1800.2, intent_index=last, instr_id=77)
    day.add("commit", 1800.3, intent_index=last, instr_id=77, reasons=[])
    day.add("outcome", 1800.4, intent_index=last, instr_id=77, outcome="executed",
            active={"T2": 0, "T3": 0}, reasons=[])  # fmt: skip
    day.poll(1805, {}, 0)
    day.deliver(1806, before)
    return day
