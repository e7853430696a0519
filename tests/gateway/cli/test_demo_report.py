import pytest

from gateway.cli import demo_report

START_US = 1_767_319_200_000_000


def row(name, **more):
    return {
        "id": name,
        "seller_terminal": "T2",
        "buyer_terminal": "T3",
        "interval_start": "2026-01-02T02:00Z",
        "interval_end": "2026-01-02T02:15Z",
        "contracted_wh": 37_500,
        "delivered_wh": 37_488,
        "status": "delivered",
        "reasons": [],
        **more,
    }


@pytest.fixture
def report():
    long = [f"some_long_reason_word_{k}" for k in range(6)]
    return {
        "trades": [
            row("T-0041"),
            row("T-0042"),
            row("T-0042", interval_start="2026-01-02T02:15Z", interval_end="2026-01-02T02:30Z"),
            row("T-0043-with-a-very-long-identifier-indeed", status="partial", reasons=long),
            {"message_id": "6" * 64, "status": "refused", "reasons": ["retained"]},
            {
                "message_id": "7" * 64,
                "trade_id": "T-0041",
                "contracted_wh": 0,
                "delivered_wh": 0,
                "status": "refused",
                "reasons": ["duplicate"],
            },
        ]
    }


def test_table_fits_a_hundred_columns(report):
    lines = demo_report.table(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["id", "path", "contracted", "delivered", "diff", "what", "happened"]


def test_row_says_contracted_delivered_difference_and_what_happened(report):
    line = next(x for x in demo_report.table(report).splitlines() if "T-0041" in x)
    assert line.split("  ")[1] == "T-0041"
    for said in ("T2→T3 150 kW", "37.50 kWh", "37.49 kWh", "−0.03 %", "● delivered"):
        assert said in line


def test_trade_over_several_intervals_tells_which(report):
    lines = demo_report.table(report).splitlines()
    assert [x.split()[:2] for x in lines if "T-0042" in x] == [
        ["T-0042", "02:00"],
        ["T-0042", "02:15"],
    ]


def test_refused_message_has_its_own_row_with_the_reason(report):
    line = demo_report.table(report).splitlines()[-1]
    assert line.split()[0] == "T-0041"
    assert "66666666…666666" in demo_report.table(report)
    assert "✕ refused: already received" in line
    assert "kWh" not in line


def test_styled_table_is_the_same_text(report):
    assert demo_report.styled(report).plain == demo_report.table(report)
    assert demo_report.styled(report).spans


def test_table_without_trades_is_its_heading():
    assert len(demo_report.table({"trades": []}).splitlines()) == 1


def test_plot_shows_set_and_measured():
    entries = [
        {
            "kind": "reading",
            "index": k,
            "utc_us": START_US + k * 60_000_000,
            "meters": [
                {"meter": "m", "terminal": "T2", "utc_us": START_US + k * 60_000_000, "p_w": -k}
            ],
        }
        for k in range(30)
    ]
    text = demo_report.braille_plot(entries, "T2", width=80, height=6)
    assert len(text.splitlines()) == 9
    assert "UTC" in text
    assert "kW" in text
    assert demo_report.braille_plot(entries, "T2", ascii_only=True).isascii()
    assert "nothing recorded" in demo_report.braille_plot(entries, "T9")
