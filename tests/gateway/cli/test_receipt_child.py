"""The page's receipts: a real child over a real ledger, and one that wants more than it may have."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from gateway.cli import receipt_child
from gateway.cli.receipt_child import receipt_file
from gateway.hmi.records import ReceiptNotMade
from ledger.audit.receipt_check import verify
from ledger.log import canonical
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
from gateway_day import full_day


async def written(tmp_path, entries=None):
    """Write a day's ledger; return its folder and key."""
    entries = full_day().entries if entries is None else entries
    signer = create_key(tmp_path / "key", "gw.example/l")
    writer = LedgerWriter.open(tmp_path / "ledger", signer=signer, origin="gw.example/l")
    await writer.append_many([canonical.encode(e) for e in entries])
    await writer.close()
    return tmp_path / "ledger", signer.vkey


async def test_the_child_makes_a_receipt_that_verifies_and_none_of_an_unknown_trade(
    tmp_path, caplog
):
    folder, vkey = await written(tmp_path)
    made = await receipt_file(folder, "A-1")
    assert verify(made, vkey=vkey).faults == ()
    assert json.loads(made)["trade_id"] == "A-1"
    assert await receipt_file(folder, "A-7") is None
    assert await receipt_file(folder, "--help") is None
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("bound", "value"),
    [("MEMORY_BYTES_MAX", 8 << 20), ("FILE_BYTES_MAX", 100), ("REAL_S_MAX", 0)],
)
async def test_a_child_past_a_bound_costs_the_receipt_and_is_not_called_one_to_wait_for(
    tmp_path, caplog, monkeypatch, bound, value
):
    folder, _ = await written(tmp_path)
    monkeypatch.setattr(receipt_child, bound, value)
    with pytest.raises(ReceiptNotMade):
        await receipt_file(folder, "A-1")
    assert "no receipt trade=A-1" in caplog.text


async def test_a_ledger_without_the_evidence_is_not_said_to_have_it_later(tmp_path, caplog):
    entries = [
        {**e, "payload": "?"} if e["kind"] == "trade.received" else e for e in full_day().entries
    ]
    folder, _ = await written(tmp_path, entries)
    with pytest.raises(ReceiptNotMade):
        await receipt_file(folder, "A-1")
    assert "no receipt trade=A-1" in caplog.text


async def test_a_reader_who_is_gone_leaves_no_child_behind(tmp_path, monkeypatch):
    folder, _ = await written(tmp_path)
    children, start = [], asyncio.create_subprocess_exec

    async def started(*arguments, **more):
        children.append(await start(*arguments, **more))
        return children[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", started)
    task = asyncio.create_task(receipt_file(folder, "A-1"))
    async with asyncio.timeout(60):
        while not children:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert children[0].returncode is not None
