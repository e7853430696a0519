"""Makes every decision of a ledger again, from the ledger alone, with the core of this program."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.core import ended, planning, setpoints, stepped, verify
from gateway.core.state import Received, Site, State, interval_from
from gateway.core.verify import MarketPolicy
from gateway.journal.ledger_journal import canonical_leaf
from gateway.market import dsse, intake
from gateway.market.topics import Topics
from gateway.model.message import Inbound, Readable
from gateway.model.terminal import LossCurve, Reactive, Sop, Terminal
from gateway.runtime.desk import PAYLOAD_BYTES_MAX
from gateway.runtime.dispatch import instruction_id

Entry = Mapping[str, Any]
COMMON = ("kind", "utc_us", "mono_us", "boot", "tq")
BESIDE = frozenset({"reading", "mode", "alarm", "delivery", "operator"})
"""Kinds that may have become durable between a decision and its intent."""
BESIDE_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A decision that comes out otherwise than it stands in the ledger."""

    index: int
    kind: str
    recorded: str
    recomputed: str


@dataclass(slots=True)
class Replay:
    """What a replay found."""

    entry_count: int = 0
    recomputed: Counter[str] = field(default_factory=Counter)
    undecided: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)


def replay(entries: Sequence[Entry]) -> Replay:
    """Fold the entries one by one and make each decision again where it stands."""
    found = Replay(entry_count=len(entries))
    state: State | None = None
    config: Entry = {}
    matched: set[int] = set()
    for index, entry in enumerate(entries):
        if entry["kind"] == "config":
            config = entry["config"]
            if state is None or state.site != site_of(config):
                state = recovered(site_of(config), entries[:index])
        if state is None:
            continue  # nothing is decided before the first configuration
        for later in _upcoming_intents(entries, index):
            if later not in matched and _same_intent(state, entries[later]):
                matched.add(later)
        _check(found, state, config, index, entry, matched)
        state.fold(index, entry)
    return found


def recovered(site: Site, entries: Sequence[Entry]) -> State:
    """What a start folds: everything, as the site is from then on."""
    state = State(site)
    for index, entry in enumerate(entries):
        state.fold(index, entry)
    state.site = site  # as it was with every limit that people had set until then
    return state


def _upcoming_intents(entries: Sequence[Entry], index: int) -> Iterator[int]:
    """Intents that may have been decided on the state as of ``index``."""
    for later in range(index, min(index + BESIDE_MAX, len(entries))):
        kind = entries[later]["kind"]
        if kind == "intent":
            yield later
            return
        if kind not in BESIDE and not kind.startswith("trade."):
            return


def _check(
    found: Replay, state: State, config: Entry, index: int, entry: Entry, matched: set[int]
) -> None:
    again: str | None = None
    kind = str(entry["kind"])
    match kind:
        case "trade.accepted" | "trade.refused":
            again = _verdict(state, config, entry)
        case "plan":
            again = _plan(state, entry)
        case "delivery":
            again = _delivery(state, entry)
        case "intent" if "image" in entry or "command" in entry:
            again = _intent(state, entry, same=index in matched)
        case _:
            return
    if again is None:
        found.undecided[kind] += 1
        return
    found.recomputed[kind] += 1
    recorded = canonical_leaf(entry).decode()
    if again != recorded:
        found.differences.append(
            Difference(index=index, kind=kind, recorded=recorded, recomputed=again)
        )


def _leaf(entry: Entry, fields: Mapping[str, Any]) -> str:
    return canonical_leaf({**fields, **{k: entry[k] for k in COMMON}}).decode()


def _verdict(state: State, config: Entry, entry: Entry) -> str | None:
    """Decide the message again; None where its bytes were not kept or a rule is newer."""
    received = state.received.get(entry["received_index"])
    if received is None:
        return _leaf(entry, {"received_index": "no such message"})
    if received.size > PAYLOAD_BYTES_MAX:
        return None
    message = intake.judge(
        _inbound(received),
        topic=Topics(site=config["site"], sop=config["sop"]).trades,
        site=config["site"],
        sop=config["sop"],
        signers=_signers(config),
        required=config["required"],
    )
    common = {"received_index": received.index, "sha256": message.sha256, "last": entry["last"]}
    if not isinstance(message, Readable):
        named = entry["trade_id"] in (message.trade_ids or (None,))
        return _leaf(entry, common | {
            "trade_id": entry["trade_id"] if named else "not of this message",
            "revision": message.revision_number,
            "reasons": [r.fields() for r in message.reasons],
        })  # fmt: skip
    left = [t for t in message.trades if t.id not in received.decided]
    if not left:
        return _leaf(entry, {"received_index": "already decided"})
    trade = next((t for t in left if t.id == entry["trade_id"]), left[0])
    full = verify.first_full(trade, state.schedule)
    if full is not None and entry["kind"] == "trade.accepted":
        return None  # older versions took any number of trades into an interval …
    told = any(r["code"] == "rate" for r in entry.get("reasons", ()))
    verdict = verify.admit(
        trade,
        sha256=message.sha256,
        sop=state.site.sop,
        policy=state.site.policy,
        earlier=ended.find(state.known, state.over, trade.id),
        intervals=state.schedule.keys(),
        open_count=verify.count_open(state.schedule),
        received_ms=received.utc_us // 1000,
        mode=state.mode,
        time_quality=entry["tq"],
        planned_ms=state.plans.keys(),
        full=full if told else None,  # … and did not name it beside other reasons
    )
    common |= {
        "trade_id": trade.id,
        "revision": trade.revision_number,
        "last": len(left) == 1,
    }
    if isinstance(verdict, verify.Refused):
        refused = {"reasons": [r.fields() for r in verdict.reasons]}
        return _leaf({**entry, "kind": "trade.refused"}, common | refused)
    accepted = {
        "out_terminal": verdict.out_terminal,
        "in_terminal": verdict.in_terminal,
        "positions": [
            {
                "interval": planning.interval_fields(p.interval),
                "p_w": p.p_w,
                "energy_wh": p.energy_wh,
            }
            for p in trade.positions
        ],
    }
    return _leaf({**entry, "kind": "trade.accepted"}, common | accepted)


def _inbound(received: Received) -> Inbound:
    return Inbound(
        topic=received.topic,
        payload=received.payload,
        retain=received.retain,
        qos_level=0,
        connection_seq=0,
        mid_number=0,
    )


def _signers(config: Entry) -> dict[str, bytes]:
    keys = [base64.b64decode(s["key"]) for s in config["signers"]]
    return {dsse.keyid(key): key for key in keys}


def _plan(state: State, entry: Entry) -> str | None:
    """Plan the interval again; None where an older version did not say what was available."""
    said = entry.get("s_va_available")
    if said is None and any(r["code"] == "derated" for t in entry["trades"] for r in t["reasons"]):
        return None
    interval = interval_from(entry["interval"])
    if interval not in state.schedule:
        return _leaf(entry, {"interval": "nothing is traded there"})
    available = said or {t.id: t.s_va for t in state.site.sop.terminals}
    due = planning.plans_due(state, utc_ms=entry["utc_us"] // 1000, available_va=available)
    again = next((p for p in due if p.interval == interval), None)
    fields = dict(again.fields) if again else {"interval": "not due"}
    if said is None:
        fields.pop("s_va_available", None)
    return _leaf(entry, fields)


def _delivery(state: State, entry: Entry) -> str:
    record = state.plans.get(interval_from(entry["interval"]).start_ms)
    if record is None:
        return _leaf(entry, {"interval": "no plan"})
    return _leaf(entry, planning.delivery_fields(state, record))


def _same_intent(state: State, entry: Entry) -> bool:
    """Whether the core wants just this intent, seeing what the intent says that it saw."""
    image = entry.get("image", {})
    if "utc_us" not in image or (state.active is None and not state.plans):
        return False
    fields = _wanted(state, entry, image)
    return all(entry.get(k) == v for k, v in fields.items())


def _wanted(state: State, entry: Entry, image: Entry) -> dict[str, Any]:
    said = image["s_va_available"]
    wanted = setpoints.wanted(
        state,
        utc_ms=image["utc_us"] // 1000,
        lead_ms=image["lead_us"] // 1000,
        available_va={t.id: min(t.s_va, said[t.id]) for t in state.site.sop.terminals},
        measured_w=setpoints.flows_w(
            state,
            image["p_w"],
            read_mono_us=image["station_mono_us"],
            acts_mono_us=image["mono_us"] + image["lead_us"],
        ),
        v_dv=image.get("v_dv"),
        shown_w=image.get("p_w_set_active"),
    )
    by_terminal = wanted.setpoints or {}
    sop = state.site.sop
    order = [t.id for t in sop.terminals]
    if state.site.separate and wanted.setpoints:
        order = stepped.writing_order(sop, state.held, wanted.setpoints)
    fields = {
        "authority": wanted.authority,
        "plan_index": wanted.plan_index,
        "act_ms": wanted.act_ms,
        "setpoints": [
            {
                "terminal": t,
                "mode": "VDC_Q" if t == sop.master else "P_Q",
                "p_w": by_terminal.get(t),
                "q_var": wanted.q_var.get(t, 0),
                "ramp_permille_per_s": wanted.ramps.get(t, state.site.ramp_permille_per_s),
            }
            for t in order
        ],
        # At more than real time a setpoint lives longer by a constant (D29).
        "ttl_s": max(wanted.ttl_s, int(entry["ttl_s"])),
    }
    return fields | ({"toward": dict(wanted.toward)} if wanted.toward else {})


def _intent(state: State, entry: Entry, *, same: bool) -> str:
    own = {k: v for k, v in entry.items() if k not in (*COMMON, "instr_id", "staged")}
    again = {"instr_id": instruction_id(own), "staged": entry["staged"]}
    if entry["authority"] == "failsafe":
        return _leaf(entry, own | again | _to_zero(state, entry))
    if same or "command" in entry:
        return _leaf(entry, own | again)
    return _leaf(entry, own | again | _wanted(state, entry, entry["image"]))


def _to_zero(state: State, entry: Entry) -> dict[str, Any]:
    """What the fail-safe writes: zero, or the next safe step towards it."""
    zero = dict.fromkeys((t.id for t in state.site.sop.terminals), 0)
    step = None
    image = entry.get("image", {})
    if state.site.separate and "s_va_available" in image:
        step = setpoints.step_toward(
            state,
            zero,
            available_va=image["s_va_available"],
            shown_w=image["p_w_set_active"],
        )
    to_w = step or zero
    rows = [{**s, "p_w": to_w[s["terminal"]], "q_var": 0} for s in entry["setpoints"]]
    return {"setpoints": rows, "plan_index": -1} | ({"toward": zero} if to_w != zero else {})


def reactive_from(said: Entry | None) -> Reactive | None:
    """Read back what reactive power a terminal shall give."""
    if said is None:
        return None
    return Reactive(q_var=said["q_var"], curve=tuple((v, q) for v, q in said["curve"]))


def site_of(config: Entry) -> Site:
    """Read back what the core needs from a ``config`` entry."""
    terminals = tuple(
        Terminal(
            id=t["id"],
            index=t["index"],
            domain=t["domain"],
            meter=t["meter"],
            s_va=t["s_va"],
            p_w_min=t["p_w_min"],
            p_w_max=t["p_w_max"],
            ramp_w_per_s=t["ramp_w_per_s"],
            v_dv_min=t["v_dv_min"],
            v_dv_max=t["v_dv_max"],
            reactive=reactive_from(t.get("reactive")),
        )
        for t in config["terminals"]
    )
    losses = config["losses"]
    return Site(
        site=config["site"],
        sop=Sop(
            id=config["sop"],
            master=config["master"],
            terminals=terminals,
            throughput_w=config["throughput_w"],
            losses=LossCurve(a_ppm=losses["a_ppm"], b_ppm=losses["b_ppm"], c_ppm=losses["c_ppm"]),
            v_dc_dv_min=config["v_dc_dv_min"],
            v_dc_dv_max=config["v_dc_dv_max"],
        ),
        policy=MarketPolicy(
            gate_ms=config["gate_s"] * 1000,
            horizon_ms=config["horizon_s"] * 1000,
            over_limit=config["over_limit"],
        ),
        rearm=config["rearm"],
        owner_id=config["owner_id"],
        ramp_permille_per_s=config["ramp_permille_per_s"],
        separate=config.get("separate", False),
    )
