"""The gateway's door to the ledger: common fields, durable, refused when it does not check."""

import pytest
from fakes.memory_journal import ManualClock

from gateway.journal.ledger_journal import LedgerJournal, read_entries
from gateway.model.errors import JournalError

ORIGIN = "bench.example/SOP-1"


def open_journal(folder):
    return LedgerJournal.open(
        directory=folder / "ledger",
        origin=ORIGIN,
        key_file=folder / "ledger.key",
        clock=ManualClock(),
    )


async def test_entries_carry_the_common_fields_and_come_back_as_written(tmp_path):
    journal = open_journal(tmp_path)
    journal.boot_number = 3
    index, entry = await journal.append("alarm", {"code": "x", "active": True, "detail": "d"})
    await journal.close()
    assert index == 0
    assert set(entry) == {"kind", "utc_us", "mono_us", "boot", "tq", "code", "active", "detail"}
    assert list(read_entries(tmp_path / "ledger")) == [(0, entry)]


async def test_a_second_gateway_on_the_same_ledger_is_refused(tmp_path):
    journal = open_journal(tmp_path)
    with pytest.raises(JournalError):
        open_journal(tmp_path)
    await journal.close()


async def test_a_float_never_reaches_the_ledger(tmp_path):
    journal = open_journal(tmp_path)
    with pytest.raises(JournalError, match="alarm not written"):
        await journal.append("alarm", {"code": "x", "active": True, "detail": 0.5})
    await journal.close()
    assert list(read_entries(tmp_path / "ledger")) == []


async def test_a_damaged_ledger_is_not_opened_for_writing(tmp_path):
    journal = open_journal(tmp_path)
    for k in range(50):
        await journal.append("alarm", {"code": f"{k}", "active": True, "detail": ""})
    await journal.close()
    (segment,) = (tmp_path / "ledger").rglob("*.seg")
    data = bytearray(segment.read_bytes())
    data[data.find(b'"code":"20"')] ^= 1
    segment.write_bytes(data)
    with pytest.raises(JournalError):
        open_journal(tmp_path)


async def test_the_key_is_made_once_private_and_kept(tmp_path):
    first = open_journal(tmp_path)
    await first.close()
    assert (tmp_path / "ledger.key").stat().st_mode & 0o777 == 0o600
    again = open_journal(tmp_path)
    assert again.vkey == first.vkey
    await again.close()


async def test_our_own_signatures_anchor_nothing(tmp_path):
    journal = open_journal(tmp_path)
    await journal.append("alarm", {"code": "x", "active": True, "detail": ""})
    assert journal.status().anchored is False
    assert journal.status().checkpoint.startswith(ORIGIN)
    await journal.close()


async def test_a_monotonic_clock_that_goes_back_stops_the_ledger(tmp_path):
    clock = ManualClock()
    journal = LedgerJournal.open(
        directory=tmp_path / "ledger",
        origin=ORIGIN,
        key_file=tmp_path / "ledger.key",
        clock=clock,
    )
    await journal.append("alarm", {"code": "x", "active": True, "detail": ""})
    clock.now_us -= 1
    with pytest.raises(JournalError, match="not written"):
        await journal.append("alarm", {"code": "x", "active": False, "detail": ""})
    assert journal.status().size == 1
    with pytest.raises(JournalError, match="stopped before it was closed"):
        await journal.close()
