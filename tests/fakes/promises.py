"""What must hold of any ledger a gateway leaves behind, however often it was killed."""


def broken(entries):
    """Every broken promise, as text; nothing when all hold."""
    return [*trades(entries), *instructions(entries), *first_writes(entries)]


def trades(entries):
    """Nothing received is undecided, nothing accepted unreported, nothing reported twice."""
    received = {i for i, e in enumerate(entries) if e["kind"] == "trade.received"}
    decided = {
        e["received_index"]
        for e in entries
        if e["kind"] in ("trade.accepted", "trade.refused") and e["last"]
    }
    yield from (f"message {i} has no verdict" for i in sorted(received - decided))
    promised = {}
    for e in entries:
        if e["kind"] == "trade.accepted":
            promised = {k: v for k, v in promised.items() if k[0] != e["trade_id"]}
            for p in e["positions"]:
                promised[e["trade_id"], p["interval"]["start"]] = p["energy_wh"]
    reported = [
        (t["trade_id"], e["interval"]["start"])
        for e in entries
        if e["kind"] == "delivery"
        for t in e["trades"]
    ]
    yield from (f"{key} reported twice" for key in sorted(set(reported)) if reported.count(key) > 1)
    yield from (
        f"{key} accepted and never reported" for key in sorted(set(promised) - set(reported))
    )
    planned = [e["interval"]["start"] for e in entries if e["kind"] == "plan"]
    yield from (f"{start} planned twice" for start in set(planned) if planned.count(start) > 1)


def instructions(entries):
    """Every intent ends exactly once; commit only after prepared; nothing operated twice."""
    phase = {}
    ids = []
    for i, e in enumerate(entries):
        kind = e["kind"]
        if kind == "intent":
            phase[i] = ["intent"]
            ids.append(e["instr_id"])
        elif kind == "readback" and e["cause"] == "reconcile":
            if phase[e["intent_index"]][-1] == "unknown":
                phase[e["intent_index"]].append(e["outcome"])
        elif kind in ("prepared", "commit", "abort", "outcome"):
            steps = phase.get(e["intent_index"])
            if steps is None:
                yield f"entry {i}: {kind} without an intent"
                continue
            if steps[-1] in ("abort", "executed", "failed", "rejected", "expired"):
                yield f"entry {i}: {kind} after {steps[-1]}"
            if kind == "commit" and steps[-1] != "prepared":
                yield f"entry {i}: commit after {steps[-1]}"
            steps.append(e["outcome"] if kind == "outcome" else kind)
    ends = ("abort", "executed", "failed", "rejected", "expired")
    yield from (f"intent {i} never ended: {s}" for i, s in phase.items() if s[-1] not in ends)
    yield from (f"instruction id {i} used twice" for i in set(ids) if ids.count(i) > 1)


def first_writes(entries):
    """D31: the first non-zero write after a start repeats the device or follows a new plan."""
    fresh, active, plans = False, {}, set()
    for i, e in enumerate(entries):
        if e["kind"] == "boot":
            fresh, active, plans = True, {}, set()
        elif e["kind"] == "plan":
            plans.add(i)
        elif e["kind"] == "readback" and e["cause"] != "reconcile":
            active = e["active"] if e["cause"] == "adopt" else {}
        elif e["kind"] == "intent" and any(s["p_w"] for s in e["setpoints"]) and fresh:
            fresh = False
            repeats = all(
                active.get(s["terminal"]) == s["p_w"]
                for s in e["setpoints"]
                if s["mode"] != "VDC_Q"
            )
            reopened = e["authority"] == "plan"  # a new decision under the plan, by a new SELECT
            if not repeats and not reopened:
                yield f"entry {i}: first write after a start is {e['authority']}"
