"""Receipts: built from the ledger alone, checked with the public key alone."""

from __future__ import annotations

import copy
import json
import tracemalloc
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.audit import evidence, receipt
from ledger.audit.auditor import Fold
from ledger.audit.receipt import ReceiptError
from ledger.audit.receipt_check import verify
from ledger.log import canonical, tiles
from ledger.log.keys import Signer, create_key
from ledger.log.treeview import TreeView

Write = Callable[[list[dict[str, Any]]], Path]


def places(made: dict[str, Any], signer: Signer) -> list[str]:
    report = verify(json.dumps(made).encode(), vkey=signer.vkey)
    assert report.ok is (not report.faults)
    return [f.place for f in report.faults]


@pytest.fixture
def made(day: Any, write: Write) -> dict[str, Any]:
    return receipt.build(write(day.entries), "A-1")


def test_a_receipt_holds_and_says_what_was_delivered(made: dict[str, Any], signer: Signer) -> None:
    report = verify(json.dumps(made).encode(), vkey=signer.vkey)
    assert report.faults == ()
    assert report.trade_id == "A-1"
    assert [(r["contracted_wh"], r["status"]) for r in report.intervals] == [
        (10_000, "delivered"), (20_000, "delivered"),
    ]  # fmt: skip
    assert all(abs(r["delivered_wh"] - r["contracted_wh"]) <= 2 for r in report.intervals)
    kinds = {json.loads(b64decode(e["leaf"]))["kind"] for e in made["entries"]}
    assert kinds == {
        "config", "trade.received", "trade.accepted", "plan", "intent", "prepared", "commit",
        "outcome", "reading", "delivery",
    }  # fmt: skip
    assert report.checked
    assert report.not_checked


def test_published_tiles_serve_and_damaged_ones_do_no_harm(
    day: Any, write: Write, signer: Signer
) -> None:
    directory = write(day.entries)
    plain = receipt.build(directory, "A-1")
    tiles.materialise(directory)
    tiled = receipt.build(directory, "A-1")
    assert tiled == plain
    path = next((directory / "tile" / "0").rglob("*.p")) / str(len(day.entries))
    path.write_bytes(path.read_bytes()[::-1])
    assert receipt.build(directory, "A-1") == plain
    tiles.materialise(directory)
    signed = (directory / "checkpoint").read_bytes()
    (directory / "checkpoint").write_bytes(signed[:-10] + b"AAAA" + signed[-6:])
    assert receipt.build(directory, "A-1") == plain


def test_the_other_trade_has_its_own(day: Any, write: Write, signer: Signer) -> None:
    made = receipt.build(write(day.entries), "A-2")
    assert places(made, signer) == []
    assert len(made["intervals"]) == 1


def test_every_changed_digit_is_refused(made: dict[str, Any], signer: Signer) -> None:
    """Every digit of a receipt in its short form, next digit instead, one after another."""
    made["entries"] = made["entries"]
    text = json.dumps(made)
    positions = [n for n, c in enumerate(text) if c.isdigit()]
    step = max(1, len(positions) // 150)
    head = [n for n in positions if n < text.index('"trade"')]
    for n in [*head, *positions[::step]]:
        digit = str((int(text[n]) + 1) % 10)
        spoiled = (text[:n] + digit + text[n + 1 :]).encode()
        assert not verify(spoiled, vkey=signer.vkey).ok, text[max(0, n - 30) : n + 10]


def test_faults_name_their_place(made: dict[str, Any], signer: Signer) -> None:
    def spoil(change: Callable[[dict[str, Any]], object]) -> list[str]:
        other = copy.deepcopy(made)
        change(other)
        return places(other, signer)

    assert (
        spoil(lambda m: m["intervals"][1].update(delivered_wh=1))[0] == "intervals[1].delivered_wh"
    )
    assert spoil(lambda m: m["intervals"][0].update(status="partial"))[0] == "intervals[0].status"
    assert spoil(lambda m: m["intervals"].pop()) == ["intervals"]
    assert spoil(lambda m: m.update(trade_id="A-9"))[0] == "trade"
    assert spoil(lambda m: m["trade"].update(payload="AAAA")) == ["trade"]
    assert spoil(lambda m: m["entries"][3].update(leaf="AAAA"))[0].startswith("entries[3] (index ")
    assert spoil(lambda m: m["entries"][3].update(proof=[]))[0].startswith("entries[3]")
    assert spoil(lambda m: m.update(extra=1)) == ["receipt"]
    assert spoil(lambda m: m["intervals"][0].update(extra=1)) == ["receipt"]
    assert spoil(lambda m: m.update(schema="sopgw/v2/receipt")) == ["receipt"]
    assert (
        spoil(lambda m: m.update(checkpoint=m["checkpoint"].replace("\n\n", "\nx\n\n")))[0]
        == "checkpoint"
    )
    line = "— w.example AAAAAAAAAAA=\n"
    assert spoil(lambda m: m.update(checkpoint=m["checkpoint"] + line)) == ["checkpoint"]


@pytest.mark.parametrize(
    "kind", ["trade.received", "plan", "delivery", "config", "outcome", "trade.accepted"]
)
def test_a_receipt_without_a_needed_entry_is_refused(
    made: dict[str, Any], signer: Signer, kind: str
) -> None:
    entries = [e for e in made["entries"] if json.loads(b64decode(e["leaf"]))["kind"] != kind]
    assert len(entries) < len(made["entries"])
    assert places({**made, "entries": entries}, signer)


def test_leaving_out_the_readings_at_a_boundary_is_found(
    made: dict[str, Any], signer: Signer
) -> None:
    readings = [e for e in made["entries"] if json.loads(b64decode(e["leaf"]))["kind"] == "reading"]
    entries = [e for e in made["entries"] if e not in readings[14:17]]
    assert "intervals[0].delivered_wh" in places({**made, "entries": entries}, signer)


def test_energy_the_gateway_overstated_is_found(day: Any, write: Write, signer: Signer) -> None:
    """Even a validly signed ledger cannot claim more than its own readings show."""
    for entry in day.entries:
        if entry["kind"] == "delivery":
            entry["trades"][0]["delivered_wh"] += 5
    made = receipt.build(write(day.entries), "A-1")
    assert places(made, signer) == ["intervals[0].delivered_wh", "intervals[1].delivered_wh"]


def test_another_key_is_refused(made: dict[str, Any], tmp_path: Path, signer: Signer) -> None:
    other = create_key(tmp_path / "k", signer.name)
    assert not verify(json.dumps(made).encode(), vkey=other.vkey).ok


def test_a_message_signed_by_a_stranger_is_found(day: Any, write: Write, signer: Signer) -> None:
    config = next(e for e in day.entries if e["kind"] == "config")
    config["config"] = {
        **config["config"],
        "signers": [{"name": "x", "key": b64encode(bytes(32)).decode()}],
    }
    made = receipt.build(write(day.entries), "A-1")
    assert "trade (entry 3)" in places(made, signer)


def test_accepting_more_than_the_message_says_is_found(
    day: Any, write: Write, signer: Signer
) -> None:
    accepted = next(e for e in day.entries if e["kind"] == "trade.accepted")
    accepted["positions"][0]["energy_wh"] += 1
    made = receipt.build(write(day.entries), "A-1")
    assert "trade (entry 3)" in places(made, signer)


def test_no_receipt_before_its_time(day: Any, write: Write) -> None:
    directory = write([e for e in day.entries if e["kind"] != "delivery"])
    with pytest.raises(ReceiptError, match="not settled yet"):
        receipt.build(directory, "A-1")
    with pytest.raises(ReceiptError, match="no accepted trade"):
        receipt.build(directory, "A-7")


def test_a_cancelled_interval_needs_no_delivery(day: Any, write: Write, signer: Signer) -> None:
    day.trade(-300, "A-3", [0], "T2", "T3")
    late = day.entries[-2:]
    entries = day.entries[:7] + late + day.entries[7:-2]
    late[1]["received_index"] = 7
    shifted = [shift(e, after=6, by=2) if e not in late else e for e in entries]
    made = receipt.build(write(shifted), "A-3")
    assert places(made, signer) == []
    assert made["intervals"][0]["status"] == "cancelled"


def shift(entry: dict[str, Any], *, after: int, by: int) -> dict[str, Any]:
    """References to entries behind an insertion move along."""
    return {
        k: v + by if k.endswith("_index") and isinstance(v, int) and v > after else v
        for k, v in entry.items()
    }


def first(entries: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(e for e in entries if e["kind"] == kind)


def revised(day: Any, kwh: list[int]) -> None:
    """A second revision of A-1 stands where a message was refused: no index moves."""
    scratch = type(day)(boot=1)
    scratch.trade(-400, "A-1", kwh, "T1", "T2", revision=2)
    received, accepted = scratch.entries
    day.entries[7:9] = [received, {**accepted, "received_index": 7}]


def settled_again(day: Any, without: Collection[tuple[int, str]] = ()) -> None:
    """Write each delivery as it follows from its plan and the entries before it.

    ``without`` names readings, by number and terminal, that do not count.
    """
    counting = copy.deepcopy(day.entries)
    readings = [e for e in counting if e["kind"] == "reading"]
    for number, terminal in without:
        for meter in readings[number]["meters"]:
            if meter["terminal"] == terminal:
                meter["quality"] = "bad"
    for n, entry in enumerate(day.entries):
        if entry["kind"] != "delivery":
            continue
        known = type(day)(entries=counting[:n])
        plans = [
            k
            for k, e in enumerate(known.entries)
            if e["kind"] == "plan" and e["interval"] == entry["interval"]
        ]
        made = known.entries[known.deliver(0, plans[-1])]
        entry.update({k: made[k] for k in ("terminals", "trades", "loss_wh")})


def broken(entries: list[dict[str, Any]]) -> set[str]:
    fold = Fold()
    for index, entry in enumerate(entries):
        fold.see(evidence.decoded(index, canonical.encode(entry)))
    return {f.number for f in fold.findings() if not f.ok}


def replan(day: Any, contracted_wh: int, planned_wh: int) -> None:
    plan = first(day.entries, "plan")
    cut_wh = plan["trades"][0]["planned_wh"] - planned_wh
    plan["trades"][0].update(contracted_wh=contracted_wh, planned_wh=planned_wh)
    plan["planned_wh"]["T1"] += cut_wh
    plan["planned_wh"]["T2"] -= cut_wh


@pytest.mark.parametrize("kwh", [[0, 20], [4, 20]])
def test_a_revision_before_the_plan_is_what_counts(
    day: Any, write: Write, signer: Signer, kwh: list[int]
) -> None:
    revised(day, kwh)
    replan(day, kwh[0] * 1000, kwh[0] * 1000)
    settled_again(day)
    made = receipt.build(write(day.entries), "A-1")
    assert places(made, signer) == []
    assert made["intervals"][0]["contracted_wh"] == kwh[0] * 1000
    assert made["intervals"][0]["status"] == ("delivered" if kwh[0] else "cancelled")
    assert broken(day.entries) == set()


def test_a_curtailed_trade_is_partial(day: Any, write: Write, signer: Signer) -> None:
    replan(day, 10_000, 5_000)
    settled_again(day)
    made = receipt.build(write(day.entries), "A-1")
    assert places(made, signer) == []
    assert made["intervals"][0]["status"] == "partial"
    assert broken(day.entries) == set()


def test_a_trade_called_cancelled_that_was_not_is_found(
    day: Any, write: Write, signer: Signer
) -> None:
    replan(day, 0, 0)
    settled_again(day)
    assert first(day.entries, "delivery")["trades"][0]["status"] == "cancelled"
    made = receipt.build(write(day.entries), "A-1")
    assert "intervals[0].contracted_wh" in places(made, signer)
    assert "I13" in broken(day.entries)


def test_a_plan_of_less_than_was_accepted_makes_nothing_whole(
    day: Any, write: Write, signer: Signer
) -> None:
    replan(day, 5_000, 5_000)
    settled_again(day)
    row = first(day.entries, "delivery")["trades"][0]
    assert row["status"] == "delivered"
    row["contracted_wh"] = 10_000
    made = receipt.build(write(day.entries), "A-1")
    assert "intervals[0].contracted_wh" in places(made, signer)
    assert "I16" in broken(day.entries)


def stamp(day: Any, number: int, at_s: int, terminals: str = "T1 T2 T3") -> None:
    """Stamp a reading as a clock that was wrong did."""
    entry = [e for e in day.entries if e["kind"] == "reading"][number]
    moved_us = day.entries[0]["utc_us"] + (600 + at_s) * 1_000_000 - entry["utc_us"]
    for meter in entry["meters"]:
        if meter["terminal"] in terminals.split():
            meter["utc_us"] += moved_us


def step(entry: dict[str, Any]) -> None:
    """The clock was set back where another entry stood: no index moves."""
    common = {k: entry[k] for k in ("utc_us", "mono_us", "boot", "tq")}
    entry.clear()
    entry.update(common, kind="time_step", step_us=-125_000_000)


def kinds_of(made: dict[str, Any]) -> list[str]:
    return [json.loads(b64decode(e["leaf"]))["kind"] for e in made["entries"]]


def test_readings_before_a_step_back_across_the_end_do_not_count(
    day: Any, write: Write, signer: Signer
) -> None:
    stamp(day, 14, 905)
    step([e for e in day.entries if e["kind"] == "reading"][15])
    settled_again(day, [(14, t) for t in ("T1", "T2", "T3")])
    assert "I16" not in broken(day.entries)
    made = receipt.build(write(day.entries), "A-1")
    assert places(made, signer) == []
    assert made["intervals"][0]["status"] == "delivered"


def test_a_step_that_the_enclosed_readings_need_is_enclosed(
    day: Any, write: Write, signer: Signer
) -> None:
    stamp(day, 16, 1_000, "T3")
    step([e for e in day.entries if e["kind"] == "prepared"][1])
    settled_again(day, [(16, "T3")])
    assert "I16" not in broken(day.entries)
    made = receipt.build(write(day.entries), "A-2")
    assert places(made, signer) == []
    assert kinds_of(made).count("time_step") == 1
    entries = [
        e for e, kind in zip(made["entries"], kinds_of(made), strict=True) if kind != "time_step"
    ]
    assert places({**made, "entries": entries}, signer)


def test_a_reading_from_before_that_kept_others_from_counting_is_enclosed(
    day: Any, write: Write, signer: Signer
) -> None:
    stamp(day, 0, 5_000, "T3")
    step([e for e in day.entries if e["kind"] == "prepared"][1])
    settled_again(day, [(n, "T3") for n in range(17)])
    assert "I16" not in broken(day.entries)
    made = receipt.build(write(day.entries), "A-2")
    assert places(made, signer) == []
    assert made["intervals"][0]["status"] != "delivered"
    first_reading = next(n for n, e in enumerate(day.entries) if e["kind"] == "reading")
    assert first_reading in [e["index"] for e in made["entries"]]


def test_no_more_readings_are_enclosed_than_are_needed(day: Any, write: Write) -> None:
    made = receipt.build(write(day.entries), "A-2")
    assert kinds_of(made).count("reading") == 16
    assert "time_step" not in kinds_of(made)


def weeks_before(day: Any, count: int) -> None:
    """Put readings of long before in front of a day; what cites an entry moves along."""
    early_us = day.entries[0]["utc_us"] - (count + 1) * 5_000_000
    earlier = [copy.deepcopy(first(day.entries, "reading")) for _ in range(count)]
    for n, entry in enumerate(earlier):
        for stamped in (entry, *entry["meters"]):
            stamped["utc_us"] = early_us + n * 5_000_000
    day.entries[:] = earlier + [shift(e, after=-1, by=count) for e in day.entries]


def test_a_long_ledger_takes_no_more_memory(day: Any, write: Write, signer: Signer) -> None:
    weeks_before(day, 4_000)
    directory = write(day.entries)
    tracemalloc.start()
    made = receipt.build(directory, "A-2")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (places(made, signer), kinds_of(made).count("reading")) == ([], 16)
    assert peak_bytes < 9_000_000, "the file itself has 2 MB; decoded, a reading has some KiB"


def test_readings_that_count_again_after_a_step_back_are_found_again(
    day: Any, write: Write, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipt, "BEFORE_COUNT", 1)
    weeks_before(day, 40)
    readings = [e for e in day.entries if e["kind"] == "reading"]
    step(readings[39])
    readings[39]["utc_us"] = readings[20]["utc_us"]
    for entry in readings[40:42]:  # so the start is bracketed from before the step
        entry["meters"][2]["quality"] = "bad"
    settled_again(day, [(n, "T3") for n in range(21, 39)])
    assert "I16" not in broken(day.entries)
    made = receipt.build(write(day.entries), "A-2")
    assert (made["entries"][0]["index"], places(made, signer)) == (20, [])


@pytest.mark.parametrize(
    ("contracted_wh", "status", "holds"),
    [(0, "cancelled", False), (10_000, "failed", True), (10_000, "cancelled", False),
     (0, "failed", False)],
)  # fmt: skip
def test_without_a_plan_the_trade_failed_and_was_not_cancelled(
    day: Any, write: Write, signer: Signer, contracted_wh: int, status: str, *, holds: bool
) -> None:
    for plan in [e for e in day.entries if e["kind"] == "plan"][:1]:
        plan.update(kind="alarm", code="x", active=True, detail="")
    delivery = first(day.entries, "delivery")
    delivery["trades"] = [
        {**t, "contracted_wh": wh, "delivered_wh": 0, "status": word}
        for t, wh, word in zip(
            delivery["trades"], (contracted_wh, 5_000), (status, "failed"), strict=True
        )
    ]
    made = receipt.build(write(day.entries), "A-1")
    assert (places(made, signer) == []) is holds
    assert ("I16" not in broken(day.entries)) is holds


def test_a_trade_cancelled_without_a_plan_holds(day: Any, write: Write, signer: Signer) -> None:
    revised(day, [0, 20])
    first(day.entries, "plan").update(kind="alarm", code="x", active=True, detail="")
    rows = first(day.entries, "delivery")["trades"]
    rows[0].update(contracted_wh=0, delivered_wh=0, status="cancelled")
    rows[1].update(delivered_wh=0, status="failed")
    assert places(receipt.build(write(day.entries), "A-1"), signer) == []
    assert "I16" not in broken(day.entries)


def test_a_trade_that_stands_twice_in_a_plan_is_found(
    day: Any, write: Write, signer: Signer
) -> None:
    rows = first(day.entries, "plan")["trades"]
    rows.append(dict(rows[0]))
    settled_again(day)
    assert "intervals[0]" in places(receipt.build(write(day.entries), "A-1"), signer)


@pytest.mark.parametrize(
    "change", [{"in_terminal": "T3"}, {"planned_wh": 10_001}, {"planned_wh": -1}]
)
def test_a_plan_that_is_not_of_the_trade_is_found(
    day: Any, write: Write, signer: Signer, change: dict[str, Any]
) -> None:
    first(day.entries, "plan")["trades"][0].update(change)
    settled_again(day)
    made = receipt.build(write(day.entries), "A-1")
    assert "intervals[0]" in places(made, signer)
    assert "I13" in broken(day.entries)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{}",
        '{"schema":"sopgw/v1/receipt"}',
        '{"a":1,"a":1}',
        '{"a":1.5}',
        '{"a":NaN}',
        "[" * 5000,
    ],
)
def test_what_is_no_receipt_is_refused(text: str, signer: Signer) -> None:
    report = verify(text.encode(), vkey=signer.vkey)
    assert [f.place for f in report.faults] == ["receipt"]


@pytest.mark.parametrize("key", [b"\xed\xb6\xbd", b"\\ud800", b"\xff"])
def test_half_characters_are_refused_not_a_crash(signer: Signer, key: bytes) -> None:
    for text in (b'{"%s":1}' % key, b'{"schema":"%s"}' % key):
        assert not verify(text, vkey=signer.vkey).ok


@pytest.mark.parametrize(
    "leaf",
    [b'{"kind":"\xff"}', b"\xff", b'{"kind":"delivery","trades":[5]}', b'{"kind":"plan"}',
     b'{"kind":"config","config":{"signers":5,"required":1}}'],
)  # fmt: skip
def test_an_enclosed_entry_of_any_bytes_is_refused_not_a_crash(
    make: Callable[..., Path], signer: Signer, leaf: bytes
) -> None:
    tree = TreeView.open(make([leaf]))
    made = {
        "schema": "sopgw/v1/receipt", "trade_id": "A-1", "intervals": [], "tlog": "C2SP",
        "trade": {"payloadType": "", "payload": "", "signatures": []},
        "entries": [{"index": 0, "leaf": b64encode(leaf).decode(), "proof": []}],
        "checkpoint": tree.checkpoint.decode(),
    }  # fmt: skip
    assert "trade" in places(made, signer)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    vkey = "gw.example/ledger+d5a4fd22+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert not verify(data, vkey=vkey).ok
