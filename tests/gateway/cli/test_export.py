"""Tables out of a ledger."""

import csv

import pytest

from ledger.log.canonical import encode
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter

ORIGIN = "sim.example/SOP-1"
DAY_US = 86_400_000_000
START_US = 1_767_312_000_000_000  # 2026-01-02T00:00:00Z


@pytest.fixture
async def folder(tmp_path):
    signer = create_key(tmp_path / "ledger.key", ORIGIN, None)
    writer = LedgerWriter.open(tmp_path / "ledger", signer=signer, origin=ORIGIN)
    for day in range(3):
        utc_us = START_US + day * DAY_US
        reading = {"meter": "m1", "terminal": "T1", "utc_us": utc_us, "import_wh": day,
                   "export_wh": 0, "p_w": -5, "quality": "good", "age_ms": 3, "registers": []}  # fmt: skip
        await writer.append(encode({"kind": "reading", "utc_us": utc_us, "meters": [reading]}))
    await writer.close()
    return tmp_path / "ledger"


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_readings_of_a_day_come_out_with_their_entries(folder, tmp_path, sopgw):
    target = tmp_path / "out.csv"
    span = ("--since", "2026-01-03", "--until", "2026-01-04")
    answer = sopgw("export", "readings", str(folder), "--to", str(target), *span, "--json")
    assert answer.exit_code == 0
    (row,) = rows(target)
    assert (row["entry_index"], row["import_wh"], row["meter"]) == ("1", "1", "m1")
    assert row["utc"].startswith("2026-01-03T00:00:00")


def test_a_file_that_exists_or_says_no_format_is_left_alone(folder, tmp_path, sopgw):
    (tmp_path / "out.csv").write_text("mine")
    there = sopgw("export", "readings", str(folder), "--to", str(tmp_path / "out.csv"), "--json")
    assert (there.exit_code, there.json["errors"][0]["code"]) == (2, "L111")
    assert (tmp_path / "out.csv").read_text() == "mine"
    odd = sopgw("export", "readings", str(folder), "--to", str(tmp_path / "out.xls"), "--json")
    assert (odd.exit_code, odd.json["errors"][0]["code"]) == (2, "L110")


def test_parquet_is_written_whole(folder, tmp_path, sopgw):
    target = tmp_path / "out.parquet"
    assert sopgw("export", "readings", str(folder), "--to", str(target)).exit_code == 0
    data = target.read_bytes()
    assert data[:4] == data[-4:] == b"PAR1"
    assert list(tmp_path.glob(".*.part")) == []
