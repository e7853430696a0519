"""``sopgw replay`` over ledgers that the simulated gateway wrote, honest and changed."""

import copy
import logging
from dataclasses import replace

import pytest
from dst.world import Setting, run
from fakes.core import Book, make_site, make_sop

from gateway.cli.replay_decisions import recovered, replay
from gateway.core import verify
from ledger.log.canonical import encode
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

ORIGIN = "sim.example/SOP-1"


@pytest.fixture(scope="module")
def entries():
    logging.disable(logging.CRITICAL)
    found = run(Setting(seed=7, minutes=12, length_s=60, gap_s=60)).entries
    logging.disable(logging.NOTSET)
    return found


async def write(folder, entries):
    signer = create_key(folder / "ledger.key", ORIGIN, None)
    writer = LedgerWriter.open(folder / "ledger", signer=signer, origin=ORIGIN)
    for entry in entries:
        await writer.append(encode(entry))
    await writer.close()
    (folder / "ledger.vkey").write_text(signer.vkey + "\n")
    return folder / "ledger"


def change(entries, kind, change_it):
    """A copy with the last entry of a kind changed."""
    changed = copy.deepcopy(entries)
    last = max(i for i, e in enumerate(changed) if e["kind"] == kind and fits(kind, e))
    change_it(changed[last])
    return changed, last


def fits(kind, entry):
    return kind != "intent" or entry["authority"] in ("plan", "tracking")


async def test_an_honest_ledger_replays_to_the_byte(entries, tmp_path, sopgw):
    folder = await write(tmp_path, entries)
    answer = sopgw("replay", folder, "--key", tmp_path / "ledger.vkey", "--json")
    data = answer.json["data"]
    assert (answer.exit_code, data["different"], data["first"]) == (0, 0, None)
    assert data["verified"]
    assert data["recomputed"] > 50
    kinds = {k["kind"]: k["recomputed"] for k in data["kinds"]}
    assert {"trade.accepted", "plan", "intent", "delivery"} <= {k for k, n in kinds.items() if n}
    assert "with the same bytes" in sopgw("replay", folder).out


@pytest.mark.parametrize(
    ("kind", "change_it"),
    [
        ("delivery", lambda e: e["trades"][0].update(delivered_wh=1 + e["trades"][0]["delivered_wh"])),
        ("delivery", lambda e: e.update(loss_wh=e["loss_wh"] + 1)),
        ("plan", lambda e: e["trades"][0].update(planned_wh=e["trades"][0]["planned_wh"] + 1)),
        ("intent", lambda e: e["setpoints"][1].update(p_w=e["setpoints"][1]["p_w"] + 100)),
        ("intent", lambda e: e.update(instr_id=e["instr_id"] ^ 1)),
        ("intent", lambda e: e["image"].update(lead_us=e["image"]["lead_us"] + 1)),
        ("trade.accepted", lambda e: e["positions"][0].update(energy_wh=1)),
        ("trade.refused", lambda e: e["reasons"][0].update(detail="other")),
    ],
)  # fmt: skip
async def test_a_changed_decision_is_named(entries, tmp_path, sopgw, kind, change_it):
    changed, index = change(entries, kind, change_it)
    if kind == "intent":  # what follows refers to its id: only the decision itself is judged here
        found = replay(changed[: index + 1])
        assert index in [d.index for d in found.differences]
        return
    folder = await write(tmp_path, changed)
    answer = sopgw("replay", folder, "--json")
    assert answer.exit_code == 8
    assert answer.json["data"]["first"]["index"] == index
    assert f"entry {index} ({kind})" in sopgw("replay", folder).out


def test_what_an_older_version_took_into_a_full_interval_is_undecided(entries, monkeypatch):
    monkeypatch.setattr(verify, "INTERVAL_TRADES_MAX", 0)
    found = replay(entries)
    first = {e["trade_id"] for e in entries if e["kind"] == "trade.accepted"}
    assert found.differences == []
    assert found.undecided["trade.accepted"] == len(first) > 0
    assert found.recomputed["trade.refused"] > 0


def test_limits_that_people_set_are_those_of_the_configuration_after_a_changed_site_file():
    book = Book()
    book.add(
        "operator", user="uid:0", verb="limits", reason="",
        arguments={"terminal": "T2", "p_w_min": -150_000, "p_w_max": 150_000},
    )  # fmt: skip
    terminals = tuple(replace(t, p_w_min=-100_000, p_w_max=100_000) for t in make_sop().terminals)
    narrower = replace(make_site(), sop=make_sop(terminals=terminals))
    assert recovered(narrower, book.entries).site == narrower


async def test_a_ledger_that_does_not_verify_is_not_replayed(entries, tmp_path, sopgw):
    folder = await write(tmp_path, entries[:40])
    segment = next((folder / "segments").iterdir())
    raw = bytearray(segment.read_bytes())
    at = raw.find(b'"kind":"config"')
    raw[at + 9] ^= 1
    segment.write_bytes(bytes(raw))
    answer = sopgw("replay", folder, "--key", tmp_path / "ledger.vkey", "--json")
    assert answer.exit_code == 8
    assert answer.json["errors"][0]["code"] == "L001"


async def test_a_ledger_without_decisions_is_undecided(tmp_path, sopgw):
    folder = await write(tmp_path, [{"kind": "note", "text": "hello"}])
    answer = sopgw("replay", folder, "--json")
    assert answer.exit_code == 9
    assert answer.json["data"]["recomputed"] == 0


@pytest.mark.parametrize("seed", [3, 15])
def test_under_faults_every_decision_replays(seed):
    logging.disable(logging.CRITICAL)
    outcome = run(Setting(seed=seed, minutes=15))
    logging.disable(logging.NOTSET)
    found = replay(outcome.entries)
    assert found.differences == []
    assert sum(found.recomputed.values()) > 20
