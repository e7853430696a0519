import csv
import io

from gateway.hmi import export

START_US = 1_767_319_200_000_000


def table(name, entries):
    return list(csv.DictReader(io.StringIO("".join(export.csv_lines(name, entries)), newline="")))


def test_a_row_for_each_meter_of_each_reading(entries):
    rows = table("readings", entries)
    assert len(rows) == 540 * 4
    assert rows[0]["utc"] == "2026-01-02T02:00:00.000000Z"
    assert rows[0]["meter"] == "m1"
    assert entries[int(rows[7]["entry_index"])]["kind"] == "reading"


def test_a_row_for_each_trade_of_each_delivery():
    trades = [
        {"trade_id": "T-1", "contracted_wh": 100, "delivered_wh": 90, "status": "partial",
         "reasons": ["guard_p", {"code": "shortfall", "detail": "T2"}]},
        {"trade_id": "T-2", "contracted_wh": 5, "planned_wh": 5, "status": "failed"},
    ]  # fmt: skip
    interval = {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}
    entries = [{"kind": "delivery", "index": 7, "interval": interval, "trades": trades}]
    first, second = table("settlements", entries)
    assert first["interval_end"] == "2026-01-02T02:15:00.000000Z"
    assert (first["delivered_wh"], first["reasons"]) == ("90", "guard_p shortfall")
    assert (second["planned_wh"], second["delivered_wh"]) == ("5", "")


def test_text_that_a_spreadsheet_would_run_is_defused():
    meters = [{"meter": "=cmd()", "utc_us": START_US, "p_w": -5, "quality": 'a"b,c'}]
    (row,) = table("readings", [{"kind": "reading", "index": 0, "meters": meters}])
    assert (row["meter"], row["p_w"], row["quality"]) == ("'=cmd()", "-5", 'a"b,c')


def test_parquet_holds_the_same_rows(entries):
    data = export.parquet_file("readings", entries)
    assert data[:4] == data[-4:] == b"PAR1"
    assert len(data) < len("".join(export.csv_lines("readings", entries))) / 3


def test_nothing_gives_a_heading_and_an_empty_file():
    assert list(export.csv_lines("settlements", [])) == [
        "entry_index,interval_start,interval_end,trade_id,contracted_wh,planned_wh,delivered_wh,status,reasons\r\n"
    ]
    assert export.parquet_file("settlements", []).startswith(b"PAR1")
