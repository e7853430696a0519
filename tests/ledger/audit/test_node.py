"""A node's ledger under audit: a good one passes, each rule catches its own kind of lie."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import auditor, evidence
from ledger.audit.auditor import Fold
from ledger.cli import sopledger
from ledger.cli.output import run
from ledger.log import canonical
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

Entries = list[dict[str, Any]]


def block_of(height: int) -> dict[str, Any]:
    return {"height": height, "utc_ms": height * 1000, "prev": "00", "messages": []}


def entries_of(heights: int) -> Entries:
    """What one of four nodes writes."""
    found: Entries = []
    for height in range(1, heights + 1):
        block = block_of(height)
        name = sha256(canonical.encode(block)).hexdigest()
        votes = [
            {"node": f"n{n}", "height": height, "block": name, "transactions": "t", "state": "s",
             "sig": f"{n}"}
            for n in range(3)
        ]  # fmt: skip
        found += [
            {"kind": "net.block", "height": height, "sha256": name, "block": block},
            {"kind": "net.vote", "height": height, "vote": dict(votes[0])},
            {"kind": "net.final", "height": height, "votes": votes, "effects": {}},
        ]
    evidence_of = {"kind": "net.evidence", "what": "two votes", "height": 1, "details": {}}
    rubbish = {"kind": "net.block", "height": heights + 1, "sha256": "ab"}
    return [*found, evidence_of, rubbish]


def broken(entries: Entries) -> dict[str, tuple[int | None, str]]:
    fold = Fold()
    for index, entry in enumerate(entries):
        fold.see(evidence.decoded(index, canonical.encode(entry)))
    return {f.number: (f.first_index, f.first) for f in fold.findings() if not f.ok}


def test_a_good_nodes_ledger_holds_and_says_what_was_not_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "ledger"
    signer = create_key(tmp_path / "key", "n0.example/node")

    async def go() -> None:
        writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
        await writer.append_many([canonical.encode(e) for e in entries_of(3)])
        await writer.close()

    asyncio.run(go())
    found = auditor.audit(directory, [signer.vkey])
    assert found.ok
    numbers = [f.number for f in found.findings]
    assert numbers == ["I1", "I2", "I3", "N1", "N2", "N3", "N4", "N5"]
    assert all(f.judged_count for f in found.findings)
    (tmp_path / "vkey").write_text(signer.vkey)
    assert run(sopledger, ["audit", str(directory), "--key", str(tmp_path / "vkey")]) == 0
    said = capsys.readouterr().out
    assert "signatures of the nodes' votes" in said
    assert "closing ramp" not in said, "that is about a gateway"


def test_a_change_of_key_is_no_stranger_in_a_nodes_ledger() -> None:
    change = {"kind": "key", "vkey": "v", "not_before_us": 1, "utc_us": 1}
    assert broken([*entries_of(2), change]) == {}


def test_a_power_cut_between_another_block_and_its_final_entry_is_no_lie() -> None:
    """The block stands there without having become final; after it what did."""
    entries = entries_of(2)
    other = block_of(2) | {"messages": [1]}
    name = sha256(canonical.encode(other)).hexdigest()
    entries.insert(5, {"kind": "net.block", "height": 2, "sha256": name, "block": other})
    assert broken(entries) == {}


def test_a_gateway_and_a_node_in_one_ledger_are_both_judged() -> None:
    assert list(broken([*entries_of(1), {"kind": "rumour"}])) == ["I8"]


Lie = Callable[[Entries], object]
LIES: dict[str, tuple[str, Lie]] = {
    "an unknown kind": ("N1", lambda e: e[4].update(kind="net.rumour")),
    "a missing field": ("N1", lambda e: e[4].pop("vote")),
    "a field of another type": ("N1", lambda e: e[3].update(height="2")),
    "a height left out": ("N2", lambda e: e.__delitem__(slice(3, 6))),
    "a height again": ("N2", lambda e: e.extend(copy.deepcopy(e[:3]))),
    "a changed block": ("N3", lambda e: e[3]["block"].update(utc_ms=1)),
    "two votes on one height": ("N4", lambda e: e.insert(5, changed(e[4]))),
    "a vote for another block": ("N4", lambda e: e[4]["vote"].update(block="ff")),
    "a node twice": ("N5", lambda e: e[5]["votes"].append(e[5]["votes"][1])),
    "votes that differ": ("N5", lambda e: e[5]["votes"][2].update(state="other")),
    "no votes at all": ("N5", lambda e: e[5]["votes"].clear()),
    "a certificate of another block": ("N5", lambda e: [v.update(block="f") for v in e[5]["votes"]]),
    "another vote in its name": ("N5", lambda e: e[5]["votes"][0].update(sig="9")),
    "a vote that is none": ("N5", lambda e: e[5].update(votes=[7])),
}  # fmt: skip


def changed(entry: dict[str, Any]) -> dict[str, Any]:
    other = copy.deepcopy(entry)
    other["vote"]["state"] = "other"
    return other


@pytest.mark.parametrize("name", LIES)
def test_each_lie_is_caught_by_its_rule(name: str) -> None:
    number, lie = LIES[name]
    entries = copy.deepcopy(entries_of(3))
    lie(entries)
    assert number in broken(entries)
