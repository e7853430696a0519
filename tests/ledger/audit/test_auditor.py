"""The audit: a good day passes every rule, and each rule catches its own kind of lie."""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import auditor, evidence, node, shapes
from ledger.audit.auditor import Fold
from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import canonical, derived, retention, tiles
from ledger.log.keys import Signer

Entries = list[dict[str, Any]]


def broken(entries: Entries) -> dict[str, tuple[int | None, str]]:
    fold = Fold()
    for index, entry in enumerate(entries):
        fold.see(evidence.decoded(index, canonical.encode(entry)))
    return {f.number: (f.first_index, f.first) for f in fold.findings() if not f.ok}


def nth(entries: Entries, kind: str, n: int = 0) -> dict[str, Any]:
    return [e for e in entries if e["kind"] == kind][n]


def test_a_good_day_holds_everywhere(day: Any, write: Any, signer: Signer) -> None:
    found = auditor.audit(write(day.entries), [signer.vkey])
    assert found.ok
    assert [f.number for f in found.findings] == [
        "I1", "I2", "I3", "I5", "I7", "I8", "I9", "I10", "I11", "I12", "I13", "I14", "I15", "I16",
        "I17", "I18", "I19", "I28", "I33", "I34", "I37",
    ]  # fmt: skip
    assert all(f.judged_count for f in found.findings if f.number not in ("I37",))


Lie = Callable[[Entries], object]


def derated(held_w: int) -> dict[str, Any]:
    return {
        "active": {"T1": 0, "T2": held_w, "T3": -held_w, "T4": 0},
        "reasons": [{"code": "derated", "detail": ""}],
    }


def drop(kind: str, n: int = 0) -> Lie:
    return lambda entries: nth(entries, kind, n).update(
        kind="alarm", code="x", active=True, detail=""
    )


LIES: dict[str, tuple[str, Lie]] = {
    "a boot number skipped": ("I5", lambda e: [x.update(boot=x["boot"] + 1) for x in e]),
    "a boot that names another": ("I5", lambda e: nth(e, "boot").update(previous_boot_index=5)),
    "an entry of another boot": ("I5", lambda e: e[9].update(boot=7)),
    "monotonic time back": ("I7", lambda e: e[20].update(mono_us=e[20]["mono_us"] - 10**12)),
    "utc back": ("I7", lambda e: e[20].update(utc_us=e[20]["utc_us"] - 10**12)),
    "an unknown kind": ("I8", lambda e: e[5].update(kind="rumour")),
    "a missing field": ("I8", lambda e: nth(e, "plan").pop("trades")),
    "a field of another type": ("I8", lambda e: nth(e, "delivery").update(loss_wh="3")),
    "a strange time quality": ("I8", lambda e: e[5].update(tq="fine")),
    "a message with another hash": ("I9", lambda e: nth(e, "trade.received").update(sha256="00")),
    "a message nobody signed": ("I9", lambda e: nth(e, "config")["config"].update(required=2)),
    "more than the message says": ("I9", lambda e: nth(e, "trade.accepted")["positions"][0].update(energy_wh=1)),
    "accepted the wrong way round": ("I9", lambda e: nth(e, "trade.accepted").update(out_terminal="T2", in_terminal="T1")),
    "accepted for another terminal": ("I9", lambda e: nth(e, "trade.accepted").update(in_terminal="T3")),
    "accepted for a terminal that is none": ("I9", lambda e: nth(e, "trade.accepted").update(in_terminal="T9")),
    "accepted as another revision": ("I9", lambda e: nth(e, "trade.accepted").update(revision=2)),
    "signed for another site": ("I9", lambda e: nth(e, "config")["config"].update(site="elsewhere")),
    "signed for another SOP": ("I9", lambda e: nth(e, "config")["config"].update(sop="SOP-9")),
    "an acceptance of nothing": ("I9", lambda e: nth(e, "trade.accepted").update(received_index=0)),
    "a trade accepted twice": ("I10", lambda e: nth(e, "trade.accepted", 1).update(trade_id="A-1")),
    "a message never decided": ("I11", drop("trade.refused")),
    "a message decided late": ("I11", lambda e: [x.update(mono_us=x["mono_us"] + 3_000_000) for x in e[4:]]),
    "accepted behind the gate": ("I12", lambda e: nth(e, "config")["config"].update(gate_s=600)),
    "accepted beyond the horizon": ("I12", lambda e: nth(e, "config")["config"].update(horizon_s=600)),
    "accepted without knowing the time": ("I12", lambda e: nth(e, "trade.received").update(tq="invalid")),
    "a plan of more than was accepted": ("I13", lambda e: nth(e, "plan")["trades"][0].update(contracted_wh=11_000)),
    "a plan that moves a trade": ("I13", lambda e: nth(e, "plan")["trades"][0].update(in_terminal="T3")),
    "an interval planned twice": ("I13", lambda e: nth(e, "plan", 1).update(interval=nth(e, "plan")["interval"])),
    "an interval planned again in part": ("I13", lambda e: nth(e, "plan", 1)["interval"].update(start="2026-01-02T02:10Z")),
    "an interval planned again within another": ("I13", lambda e: nth(e, "plan", 1)["interval"].update(start="2026-01-02T02:05Z", end="2026-01-02T02:10Z")),
    "an interval planned again around another": ("I13", lambda e: nth(e, "plan", 1)["interval"].update(start="2026-01-02T01:55Z")),
    "a plan out of balance": ("I14", lambda e: nth(e, "plan")["planned_wh"].update(T2=1)),
    "a plan not of its trades": ("I14", lambda e: nth(e, "plan")["planned_wh"].update(T1=0, T2=0, T3=0)),
    "a trade delivered twice": ("I15", lambda e: nth(e, "delivery", 1).update(nth(e, "delivery"))),
    "a delivery that never came": ("I15", lambda e: (drop("delivery")(e), e[-1].update(utc_us=e[-1]["utc_us"] + 10**10))),
    "energy overstated": ("I16", lambda e: nth(e, "delivery")["trades"][0].update(delivered_wh=9_999)),
    "a status bent": ("I16", lambda e: nth(e, "delivery")["trades"][0].update(status="partial")),
    "a terminal's energy overstated": ("I16", lambda e: nth(e, "delivery")["terminals"][1].update(metered_wh=3)),
    "losses hidden": ("I16", lambda e: nth(e, "delivery").update(loss_wh=0)),
    "a reading changed afterwards": ("I16", lambda e: nth(e, "reading", 16)["meters"][1].update(export_wh=14_990)),
    "an outcome of another instruction": ("I17", lambda e: nth(e, "outcome").update(instr_id=4)),
    "an outcome before its intent": ("I17", lambda e: nth(e, "prepared").update(intent_index=len(e) - 1)),
    "an intent without outcome": ("I18", drop("outcome")),
    "two outcomes": ("I18", lambda e: nth(e, "prepared").update(kind="outcome", outcome="failed", active={}, reasons=[])),
    "an abort after the commit": ("I18", lambda e: (nth(e, "outcome").update(kind="abort"), nth(e, "abort").pop("outcome"), nth(e, "abort").pop("active"))),
    "an abort of what had ended": ("I18", lambda e: nth(e, "prepared", 1).update(kind="abort", reasons=[], intent_index=nth(e, "prepared")["intent_index"], instr_id=nth(e, "prepared")["instr_id"])),
    "a strange outcome": ("I18", lambda e: nth(e, "outcome").update(outcome="fine")),
    "more power after unknown": ("I18", lambda e: nth(e, "outcome").update(outcome="unknown")),
    "an intent of nobody": ("I19", lambda e: nth(e, "intent").update(authority="me")),
    "an intent of a plan that is none": ("I19", lambda e: nth(e, "intent").update(plan_index=0)),
    "tracking without a plan": ("I19", lambda e: nth(e, "intent").update(authority="tracking", plan_index=-1)),
    "a commit unprepared": ("I28", drop("prepared")),
    "executed though never prepared nor committed": ("I28", lambda e: (drop("prepared")(e), drop("commit")(e))),
    "executed though never committed": ("I28", drop("commit")),
    "a commit long after": ("I28", lambda e: nth(e, "prepared").update(mono_us=0)),
    "a meter that runs backwards": ("I33", lambda e: nth(e, "reading", 9)["meters"][1].update(export_wh=0)),
    "a meter that leaps": ("I33", lambda e: nth(e, "reading", 9)["meters"][2].update(import_wh=90_000)),
    "a meter that begins anew above zero": ("I33", lambda e: [m.update(export_wh=m["export_wh"] // 2) for x in e if x["kind"] == "reading" and x["utc_us"] > nth(e, "reading", 20)["utc_us"] for m in x["meters"]]),
    "executed but echoed otherwise": ("I34", lambda e: nth(e, "outcome")["active"].update(T2=1)),
    "derated, but to the other side": ("I34", lambda e: nth(e, "outcome").update(derated(-1))),
    "derated, but to more": ("I34", lambda e: nth(e, "outcome").update(derated(10_000_000))),
    "a deed of nobody": ("I37", lambda e: nth(e, "alarm").update(kind="operator", user="", verb="arm", arguments={}, reason="")),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_each_rule_catches_its_lie(day: Any, lie: str) -> None:
    number, tell = LIES[lie]
    entries = copy.deepcopy(day.entries)
    if number == "I37":
        entries.append({**entries[-1], "kind": "alarm", "code": "x", "active": True, "detail": ""})
    assert broken(entries) == {}
    if lie == "more power after unknown":
        nth(entries, "outcome").update(outcome="unknown")
        nth(entries, "intent", 1)["setpoints"][0].update(p_w=200_000)
        nth(entries, "outcome", 1)["active"].update(T2=200_000)
    else:
        tell(entries)
    found = broken(entries)
    assert number in found, found
    assert found[number][1]


def test_a_derated_terminal_may_hold_less_than_it_was_sent(day: Any) -> None:
    entries = copy.deepcopy(day.entries)
    outcome = nth(entries, "outcome")
    halves = {t: p // 2 for t, p in outcome["active"].items()}
    assert any(halves.values())
    outcome.update(active=halves)
    assert "I34" in broken(entries)
    outcome.update(reasons=[{"code": "derated", "detail": ""}])
    assert broken(entries) == {}


def begin_anew(entries: Entries, n: int) -> None:
    """The meter of T2 counts from zero again from its nth reading on."""
    readings = [e for e in entries if e["kind"] == "reading"][n:]
    zero_wh = readings[0]["meters"][1]["export_wh"]
    for entry in readings:
        entry["meters"][1]["export_wh"] -= zero_wh


def test_a_meter_that_begins_anew_is_named_and_earns_nothing(
    day: Any, write: Any, signer: Signer
) -> None:
    """In an interval the delivery must say so; after the last it is told and breaks no rule."""
    entries = copy.deepcopy(day.entries)
    begin_anew(entries, 9)
    assert list(broken(entries)) == ["I16"], "the interval has no energy, and was settled with it"
    entries = copy.deepcopy(day.entries)
    late = copy.deepcopy(nth(entries, "reading", -1))
    for entry in (late, *late["meters"]):
        entry["utc_us"] += 60_000_000
    late["utc_us"], late["mono_us"] = entries[-1]["utc_us"] + 1, entries[-1]["mono_us"] + 60_000_000
    late["meters"][1]["export_wh"] = 0
    found = auditor.audit(write([*entries, late]), [signer.vkey])
    assert [f.number for f in found.findings if not f.ok] == []
    assert found.not_checked[0] == (
        f"what meters counted that began anew at zero, at entry {len(entries)}"
    )


def test_the_configuration_that_settles_is_the_one_of_the_delivery(day: Any) -> None:
    """A start between plan and delivery added a terminal: the gateway settles with what it has."""
    entries = copy.deepcopy(day.entries)
    where = at(entries, "delivery", 1) - 1  # a reading behind the end, which nobody needs
    larger = copy.deepcopy(nth(entries, "config"))
    terminals = larger["config"]["terminals"]
    terminals.append({**terminals[-1], "id": "T4", "domain": "region-3", "meter": "m4"})
    entries[where] = {**larger, **{k: entries[where][k] for k in ("utc_us", "mono_us")}}
    assert "I16" in broken(entries)
    row = {"terminal": "T4", "planned_wh": 0, "metered_wh": 0, "judged_wh": 0}
    settled = nth(entries, "delivery", 1)
    settled["terminals"].append({**row, "flags": ["unmetered"]})
    settled["trades"][0].update(status="partial", reasons=["unmetered"])
    assert broken(entries) == {}


def test_what_a_session_or_a_command_executed_takes_no_commit(day: Any) -> None:
    entries = copy.deepcopy(day.entries)
    for kind in ("prepared", "commit"):
        drop(kind)(entries)
    for of_it in (
        {"authority": "operator", "plan_index": -1},
        {"authority": "configure", "plan_index": -1, "command": "CONFIGURE"},
    ):
        changed = copy.deepcopy(entries)
        nth(changed, "intent").update(of_it)
        assert broken(changed) == {}
    assert list(broken(entries)) == ["I28"]


def test_a_read_back_after_unknown_allows_more_power(day: Any) -> None:
    entries = copy.deepcopy(day.entries)
    nth(entries, "outcome").update(outcome="unknown")
    nth(entries, "intent", 1)["setpoints"][0].update(p_w=200_000)
    nth(entries, "outcome", 1)["active"].update(T2=200_000)
    assert "I18" in broken(entries)
    where = next(n for n, e in enumerate(entries) if e is nth(entries, "reading", 5))
    entries[where] = {
        **entries[where],
        "kind": "readback",
        "sop": "SOP-1",
        "active": {},
        "instr_id": 0,
        "state": "",
        "cause": "",
    }
    assert "I18" not in broken(entries)


def test_a_time_step_explains_utc_going_back(day: Any) -> None:
    entries = copy.deepcopy(day.entries)
    step = {k: entries[2][k] for k in ("utc_us", "mono_us", "boot", "tq")}
    entries.insert(3, {**step, "kind": "time_step", "step_us": -5, "utc_us": step["utc_us"] - 5})
    assert "I7" not in broken(entries)


def test_a_tampered_ledger_is_not_even_read(day: Any, write: Any, signer: Signer) -> None:
    directory = write(day.entries)
    path = next((directory / "segments").iterdir())
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)
    found = auditor.audit(directory, [signer.vkey])
    assert not found.ok
    assert [f.number for f in found.findings] == ["I1", "I2", "I3"]


@pytest.mark.parametrize(
    "leaf",
    [b'{"kind":"\xff"}', b'{"kind":"reading","meters":"\xed\xa0\x80"}', b"\xff", b"[" * 9_000],
)
def test_bytes_that_are_no_text_are_a_finding(
    make: Callable[..., Path], signer: Signer, leaf: bytes
) -> None:
    found = auditor.audit(make([b"{}", leaf]), [signer.vkey])
    assert found.report.ok
    form = next(f for f in found.findings if f.number == "I8")
    assert form.broken_count == 2


@pytest.mark.parametrize("quantity", ["Infinity", "NaN", "1E+999999", "9E+999990"])
def test_a_signed_quantity_that_is_no_number_is_a_finding(day: Any, quantity: str) -> None:
    sign = type(day).trade.__globals__["message"]
    plain = sign("A-1", [10, 20], "T1", "T2")
    body = b64decode(json.loads(plain)["payload"]).replace(b'"40"', b'"%s"' % quantity.encode())
    payload = json.dumps({**json.loads(plain), "payload": b64encode(body).decode()}).encode()
    entries = copy.deepcopy(day.entries)
    nth(entries, "config")["config"].update(signers=[], required=0)
    nth(entries, "trade.received").update(
        payload=b64encode(payload).decode(), sha256=sha256(payload).hexdigest()
    )
    assert list(broken(entries)) == ["I9"]


@pytest.fixture
def prune(make: Callable[..., Path], tmp_path: Path) -> Callable[[Entries, int], Path]:
    """Write entries in small segments, export them, and remove the readings below an index."""

    def build(entries: Entries, before: int) -> Path:
        leaves = [canonical.encode(e) for e in entries]
        ledger = make(*[[leaf] for leaf in leaves], segment_bytes=1_000)
        derived.rebuild(ledger)
        tiles.materialise(ledger, tmp_path / "export")
        done = retention.prune(
            ledger, tmp_path / "export", lambda n, b: n < before and b'"kind":"reading"' in b
        )
        gone = [n for n, e in enumerate(entries[:before]) if e["kind"] == "reading"]
        assert done.removed_count == len(gone) > 0
        return ledger

    return build


def at(entries: Entries, kind: str, n: int = 0) -> int:
    return [k for k, e in enumerate(entries) if e["kind"] == kind][n]


@pytest.mark.parametrize(("readings", "unjudged_count"), [(16, 1), (31, 2)])
def test_removed_readings_are_named_and_break_no_rule(
    day: Any, prune: Any, signer: Signer, readings: int, unjudged_count: int
) -> None:
    before = at(day.entries, "reading", readings)
    found = auditor.audit(prune(day.entries, before), [signer.vkey])
    assert [f for f in found.findings if not f.ok] == []
    assert found.ok
    assert f"bodies of {readings} entries that were removed after export" in found.not_checked[0]
    what = "1 delivery" if unjudged_count == 1 else "2 deliveries"
    assert found.not_checked[1] == f"the energies of {what}, whose readings were removed"


def test_readings_that_no_delivery_needs_may_go(day: Any, prune: Any, signer: Signer) -> None:
    found = auditor.audit(prune(day.entries, at(day.entries, "reading", 1)), [signer.vkey])
    assert found.ok
    assert found.unjudged_count == 0
    assert len(found.not_checked) == len(auditor.NOT_CHECKED) + 1


@pytest.mark.parametrize(
    ("n", "change"),
    [(1, {"delivered_wh": 19_000}), (0, {"contracted_wh": 9_000}), (0, {"trade_id": "A-9"})],
)
def test_a_lie_beside_removed_readings_is_still_found(
    day: Any, prune: Any, signer: Signer, n: int, change: dict[str, Any]
) -> None:
    nth(day.entries, "delivery", n)["trades"][0].update(change)
    ledger = prune(day.entries, at(day.entries, "reading", 16))
    found = auditor.audit(ledger, [signer.vkey])
    assert "I16" in [f.number for f in found.findings if not f.ok]


def test_the_command(
    day: Any, write: Any, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vkey").write_text(signer.vkey)
    directory = write(day.entries)
    assert run(sopledger, ["audit", str(directory), "--key", str(tmp_path / "vkey")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "no errors were found"
    assert "PASS  I16" in out


def test_the_command_names_the_first_counter_example(
    day: Any, write: Any, signer: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "vkey").write_text(signer.vkey)
    nth(day.entries, "delivery")["trades"][0]["delivered_wh"] += 7
    directory = write([*day.entries, {**day.entries[-1], "kind": "rumour"}])
    assert run(sopledger, ["audit", str(directory), "--key", str(tmp_path / "vkey")]) == 8
    out = capsys.readouterr().out
    assert "FAIL  I16" in out
    assert "10007 Wh" in out or "Wh delivered stated" in out
    assert f"entry {len(day.entries)}: unknown kind 'rumour'" in out


def test_schemas_of_all_kinds() -> None:
    for kind in shapes.KINDS:
        schema = shapes.json_schema(kind)
        assert schema["$id"] == f"sopgw/v1/entry/{kind}"
        assert set(schema["required"]) == set(schema["properties"])


def test_the_kinds_that_a_rule_names_are_all_it_looks_at(day: Any) -> None:
    narrow, wide = Fold(), Fold()
    wide._looking_at = lambda _kind, *, of_node=False: (  # type: ignore[method-assign]
        wide.node_others if of_node else wide.others
    )
    for index, entry in enumerate(day.entries):
        for fold in (narrow, wide):
            fold.see(evidence.decoded(index, canonical.encode(entry)))
    assert list(narrow.findings()) == list(wide.findings())


def test_every_kind_that_a_rule_names_is_a_kind() -> None:
    fold = Fold()
    for rule in fold.others:
        assert rule.kinds is None or rule.kinds <= set(shapes.KINDS)
    for rule in fold.node_others:
        assert rule.kinds is None or rule.kinds <= set(node.KINDS)


def test_a_terminal_that_went_before_the_outcome_was_known_needs_no_echo(day: Any) -> None:
    entries = copy.deepcopy(day.entries)
    at = entries.index(nth(entries, "outcome"))
    config = copy.deepcopy(nth(entries, "config"))
    gone = config["config"]["terminals"].pop()["id"]
    del entries[at]["active"][gone]
    assert "I34" in broken(entries)
    entries.insert(at, config)
    assert "I34" not in broken(entries)
