"""What a ledger tells of a trade and of an instruction, and what a rehearsal must come to."""

import pytest
from fakes.gateway_day import full_day

from gateway.cli import instr
from gateway.cli.trade_explain import explain
from gateway.cli.trade_rehearse import Order, cases_of, holds, judge, table
from gateway.model.units import signed_kw_text
from ledger.log import canonical
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter


def told(trade_id, day=None):
    return explain(enumerate((day or full_day()).entries), trade_id)


@pytest.fixture
async def ledger(tmp_path):
    signer = create_key(tmp_path / "ledger.key", "bench.example/SOP-1", None)
    folder = tmp_path / "ledger"
    writer = LedgerWriter.open(folder, signer=signer, origin="bench.example/SOP-1")
    for entry in full_day().entries:
        await writer.append(canonical.encode(entry))
    await writer.close()
    return folder


def test_a_story_goes_from_the_signature_to_the_settlement():
    story = told("A-1")
    words = "\n".join(line.what for line in story.lines)
    for step in ("signed by market-1", "accepted, revision 1: T1 → T2", "planned 10.00 kWh",
                 "(plan): T2", "executed", "settled by meter: 10.00 kWh of 10.00 kWh"):  # fmt: skip
        assert step in words, step
    places = [line.first_index for line in story.lines]
    assert places == sorted(places)
    assert story.delivered_wh <= story.contracted_wh == 30_000


def test_every_entry_it_names_is_one_of_the_ledger():
    entries = full_day().entries
    for line in told("A-1").lines:
        assert entries[line.first_index]["kind"]
        assert line.first_index <= line.last_index < len(entries)


def test_why_it_was_curtailed_and_why_it_fell_short_is_said_with_the_entry():
    day = full_day()
    for entry in day.entries:
        for trade in entry.get("trades", ()):
            if trade["trade_id"] == "A-2" and entry["kind"] == "plan":
                trade["planned_wh"] = 4_000
                trade["reasons"] = [{"code": "guard_p", "detail": "T2"}]
            if trade["trade_id"] == "A-2" and entry["kind"] == "delivery":
                trade |= {"planned_wh": 4_000, "delivered_wh": 3_000, "status": "partial",
                          "reasons": ["guard_p", "link_lost"]}  # fmt: skip
    story = told("A-2", day)
    assert story.status == "partial"
    assert story.why[0].startswith("1.00 kWh were cut when planning (#")
    assert "1.00 kWh of the plan were not delivered (#" in story.why[1]
    assert "link to the converter lost" in story.why[1]


def test_a_refusal_is_the_whole_story_and_a_stranger_has_none():
    day = full_day()
    received = day.add(
        "trade.received", 9, topic="t", retain=False, size=2, sha256="0", payload="e30="
    )
    day.add("trade.refused", 9.1, received_index=received, trade_id="B-1",
            reasons=[{"code": "late", "detail": "starts 5 s before"}])  # fmt: skip
    story = told("B-1", day)
    assert story.status == "refused"
    assert "signed by nobody known" in story.lines[0].what
    assert told("B-2") is None


def test_a_correction_of_a_derated_terminal_is_told_by_how_much():
    day = full_day()
    plan = next(n for n, e in enumerate(day.entries) if e["kind"] == "plan")
    for number in range(20):
        day.instruct(100 + number, f"t-{number}", plan, {"T2": 60_000}, authority="tracking")
    detail = "T2 holds 9000 W of 60000 W, 9000 VA are available"
    last = [e for e in day.entries if e["kind"] == "outcome"][-1]
    assert not any(detail in line.what for line in told("A-1", day).lines)
    last["reasons"] = [{"code": "derated", "detail": detail}]
    assert any(detail in line.what for line in told("A-1", day).lines)


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("failsafe", "went to zero by itself"),
        ("foreign", "holds somebody else's setpoint"),
        ("differs", "holds an instruction otherwise than sent"),
        ("adopt", None),
    ],
)
def test_what_the_converter_held_otherwise_during_a_trade_is_told(cause, words):
    day = full_day()
    at = next(i for i, e in enumerate(day.entries) if e["kind"] == "delivery")
    during = next(e for e in day.entries[:at] if e["kind"] == "intent")
    read = {"sop": "SOP-1", "instr_id": 1, "active": {}, "state": "RUN", "cause": cause}
    end_us = day.entries[at]["utc_us"] - 90_000_000
    day.entries.insert(at, {**during, **read, "kind": "readback", "utc_us": end_us})
    lines = [line.what for line in told("A-1", day).lines if line.what.startswith("read back")]
    assert [words in line for line in lines] == ([True] if words else [])


def test_many_corrections_are_one_line():
    day = full_day()
    plan = next(n for n, e in enumerate(day.entries) if e["kind"] == "plan")
    for number in range(20):
        day.instruct(
            100 + number, f"t-{number}", plan, {"T2": 60_000 + number}, authority="tracking"
        )
    lines = [line.what for line in told("A-1", day).lines]
    assert sum("(tracking)" in what for what in lines) <= 4
    assert any(what.startswith("corrections by meter, all executed: ") for what in lines)


def test_an_instruction_from_intent_to_outcome():
    entries = list(enumerate(full_day().entries))
    found = instr.gather(entries)
    assert [i.outcome for i in found] == ["executed"] * len(found)
    plan = full_day().entries[found[0].intent["plan_index"]]
    text = "\n".join(instr.lines(found[0], plan))
    assert "for A-1, A-2" in text
    assert "+0.300 s  executed; the station holds" in text
    assert "commit: durable before OPERATE leaves" in text


def test_an_open_instruction_says_that_nothing_followed():
    entries = [(n, e) for n, e in enumerate(full_day().entries) if e["kind"] == "intent"]
    one = instr.gather(entries)[0]
    assert one.outcome == "open"
    assert "nothing followed" in "\n".join(instr.lines(one, None))


def test_from_a_ledger_on_disk(ledger, sopgw, tmp_path):
    story = sopgw("trade", "explain", "A-1", "--ledger", ledger, "--json").json["data"]
    assert story["status"] == "delivered"
    assert story["steps"][0]["what"].startswith("received")
    traced = sopgw("instr", "trace", "77", "--ledger", ledger, "--json").json["data"]
    assert (traced["outcome"], traced["trades"]) == ("executed", [])
    assert sopgw("instr", "ls", "--count", "1", "--ledger", ledger, "--json").exit_code == 0
    receipt = tmp_path / "A-1.json"
    answer = sopgw("trade", "receipt", "A-1", "--ledger", ledger, "-o", receipt, "--json")
    assert answer.json["data"]["trade_id"] == "A-1"
    shown = sopgw("trade", "show", "A-1", "--ledger", ledger)
    assert "-0.0" not in shown.out


def test_what_rounds_to_zero_has_no_sign():
    assert [signed_kw_text(p) for p in (-49, 0, 49, -51, 150_000)] == [
        "0.0 kW", "0.0 kW", "0.0 kW", "-0.1 kW", "+150.0 kW",
    ]  # fmt: skip


# Rehearsal


ORDER = Order(count=1, p_w=12_000, wrongs=("cut", "duplicate", "late", "retained"), speed_factor=30)


def refused(trade_id, code):
    return {
        "kind": "trade.refused",
        "trade_id": trade_id,
        "reasons": [{"code": code, "detail": ""}],
    }


def delivered(trade_id, status, reasons=()):
    trade = {"trade_id": trade_id, "contracted_wh": 1000, "delivered_wh": 990, "status": status,
             "reasons": list(reasons)}  # fmt: skip
    return {"kind": "delivery", "trades": [trade]}


AS_EXPECTED = [delivered("R-001", "delivered"), delivered("R-002", "partial", ["link_lost"]),
               refused("R-001", "duplicate"), refused("R-004", "late"),
               refused("R-005", "retained")]  # fmt: skip


def test_every_case_of_a_rehearsal_has_its_outcome():
    rows = judge(list(enumerate(AS_EXPECTED)), cases_of(ORDER))
    assert [row["case"] for row in rows] == ["good", *ORDER.wrongs]
    assert all(row["ok"] for row in rows)
    assert [row["entry"] for row in rows] == [0, 1, 2, 3, 4]
    assert table(rows, verified=True).splitlines()[-1].startswith("✓ 5 of 5 as expected")


@pytest.mark.parametrize("number", range(5))
def test_a_case_that_comes_out_otherwise_is_told(number):
    wrong = [e for k, e in enumerate(AS_EXPECTED) if k != number]
    rows = judge(list(enumerate(wrong)), cases_of(ORDER))
    assert [row["ok"] for row in rows] == [k != number for k in range(5)]
    assert "✗" in table(rows, verified=True).splitlines()[-1]
    assert table(judge(list(enumerate(AS_EXPECTED)), cases_of(ORDER)), verified=False).endswith(
        "DOES NOT VERIFY"
    )


def test_a_refusal_with_another_reason_does_not_count():
    assert not holds("late", "refused", ["retained"])
    assert not holds("cut", "delivered", ["link_lost"])


def test_a_rehearsal_takes_whole_energies_and_known_wrongs(sopgw, tmp_path):
    assert sopgw("trade", "rehearse", "--power", "10kW", "--json").exit_code == 2
    assert sopgw("trade", "rehearse", "--with", "storm", "--json").exit_code == 2
    (tmp_path / "x").write_text("")
    assert sopgw("trade", "rehearse", "--keep", tmp_path, "--json").exit_code == 2
