"""``sopgw top``: what is on the screen at two sizes, keys, colours, a gateway that goes and comes."""

import html
import os
import re
from pathlib import Path

import pytest

from gateway.cli.top_app import TopApp
from gateway.hmi import terminal as view

SCREENS = Path(__file__).with_name("screens")
NOW_MS = 1_800_000_900_000


def terminal(name, p_w, p_w_set, q_var=0, *, master=False):
    return {
        "id": name, "domain": f"region-{name[-1]}", "master": master, "p_w": p_w,
        "p_w_set": p_w_set, "q_var": q_var, "v_dv": 4012, "s_va": 250_000, "p_w_min": -230_000,
        "p_w_max": 230_000, "meter_p_w": p_w, "state": "RUN",
    }  # fmt: skip


def alarm(code, level, what, **more):
    return {
        "code": code, "priority_level": level, "what": what, "response": "look at it",
        "detail": "", "since_us": NOW_MS * 1000 - 60_000_000, "active": True,
        "acknowledged": False, "shelved_until_us": None, "shelved_by": "", "shelved_why": "",
    } | more  # fmt: skip


def trade(name, start_min, delivered_wh, status, contracted_wh=20_000, reasons=()):
    start_us = (NOW_MS + start_min * 60_000) * 1000
    return {
        "id": name, "out_terminal": "T2", "in_terminal": "T3", "start_us": start_us,
        "end_us": start_us + 900_000_000, "contracted_wh": contracted_wh, "planned_wh": None,
        "delivered_wh": delivered_wh, "status": status, "reasons": list(reasons),
    }  # fmt: skip


def status(**changes):
    return {
        "site": "elm", "sop": "SOP-1", "utc_ms": NOW_MS, "simulated": True, "mode": "on",
        "state": "EXECUTING", "reasons": [], "armed": True, "time_quality": "good",
        "control": {"holder": "trades", "what": "", "until_ms": None},
        "alarms": ["A-160"], "broker_online": True, "station_age_ms": 400, "heartbeat_ds": 46,
        "v_dc_dv": 7998, "loss_w": 4300, "open_intervals": 2, "scheduled_intervals": 5,
        "terminals": [
            terminal("T1", -4300, 0, master=True), terminal("T2", -150_200, -150_000, 20_100),
            terminal("T3", 150_100, 150_000), terminal("T4", 40, 0),
        ],
        "alarm_rows": [
            alarm("A-120", 2, "Converter does not answer"),
            alarm("A-160", 3, "Converter and meter disagree", detail="m2 is 1.8 % off T2"),
            alarm("A-190", 3, "Heatsink hot", shelved_until_us=NOW_MS * 2000, shelved_by="uid:1"),
        ],
        "trades": [
            trade("trd-041", -20, 20_040, "delivered"), trade("trd-042", -5, 6_910, "running"),
            trade("trd-043", 10, None, "planned"),
            trade("trd-040", -35, 12_970, "partial", reasons=["link_lost: silent"]),
        ],
        "ledger": {"entries": 18_204, "anchored": True},
    } | changes  # fmt: skip


class Gateway:
    """Answers like the socket; its powers move so that there is a curve."""

    def __init__(self):
        self.asked, self.gone, self.count = [], False, 0
        self.rows = status()["alarm_rows"]

    async def __call__(self, request):
        if self.gone:
            raise ConnectionRefusedError
        self.asked.append(request)
        match request["verb"]:
            case "status":
                self.count += 1
                found = status(utc_ms=NOW_MS + 1000 * self.count, alarm_rows=self.rows)
                found["terminals"][1]["p_w"] += min(0, 9_000 * (self.count - 17))
                return {"ok": True, "status": found}
            case "entries":
                row = {"index": 7, "utc_us": NOW_MS * 1000, "kind": "plan", "what": "3 trades"}
                return {"ok": True, "entries": [row]}
            case _:
                return {"ok": True}


def text_of(app):
    """The screen as text, from the picture that Textual exports."""
    picture = re.sub(r'<text[^>]*text-anchor="middle".*?</text>', "", app.export_screenshot())
    rows = {}
    for x, y, inner in re.findall(
        r'<text[^>]*x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)</text>', picture
    ):
        rows.setdefault(float(y), []).append((float(x), html.unescape(inner)))
    lines = []
    for y in sorted(rows):
        line = ""
        for x, inner in sorted(rows[y]):
            line = line.ljust(round(x / 12.2)) + inner.replace("\xa0", " ")
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


async def shown(app, size, *keys, polls=20):
    async with app.run_test(size=size) as pilot:
        for _ in range(polls):
            await app.refresh_status()
        for key in keys:
            await pilot.press(key)
        await pilot.pause()
        return text_of(app)


def held(name, text):
    """A screen is what it was; SOPGW_WRITE_SCREENS=1 writes it anew, to be looked at."""
    path = SCREENS / f"{name}.txt"
    if os.environ.get("SOPGW_WRITE_SCREENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("size", [(80, 24), (112, 36)], ids=["80x24", "112x36"])
@pytest.mark.parametrize("keys", [(), ("2",), ("3",), ("4",), ("question_mark",)],
                         ids=["overview", "trades", "ledger", "alarms", "help"])  # fmt: skip
async def test_the_screen_is_what_it_was(size, keys):
    text = await shown(TopApp(ask=Gateway(), every_s=3600), size, *keys)
    lines = text.splitlines()
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]
    name = keys[0] if keys else "overview"
    held(f"{size[0]}x{size[1]}-{name}", text)


async def test_everything_that_matters_is_on_the_small_screen():
    text = await shown(TopApp(ask=Gateway(), every_s=3600), (80, 24))
    for word in ("SOP-1", "EXECUTING", "SIM", "-150.2 kW", "-150.0 kW", "trd-042", "6.91 kWh",
                 "A-120", "18204 entries", "anchored", "DC 799.8 V"):  # fmt: skip
        assert word in text, word
    assert "A-190" not in text, "a shelved alarm is out of sight"


async def test_no_colour_and_sixteen_colours(monkeypatch):
    plain = await shown(TopApp(ask=Gateway(), every_s=3600), (80, 24))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-16color")
    app = TopApp(ask=Gateway(), every_s=3600)
    assert await shown(app, (80, 24)) == plain
    assert "▼2" in plain, "shape and number, not colour alone"


async def test_resizing_through_every_size_raises_nothing():
    app = TopApp(ask=Gateway(), every_s=3600)
    async with app.run_test(size=(112, 36)) as pilot:
        for width, height in ((80, 24), (40, 12), (20, 6), (200, 60), (81, 25)):
            await pilot.resize_terminal(width, height)
            await pilot.pause()
        assert "SOP-1" in text_of(app)


async def test_a_gateway_that_goes_is_said_and_comes_back():
    gateway = Gateway()
    app = TopApp(ask=gateway, every_s=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.refresh_status()
        gateway.gone = True
        await app.refresh_status()
        await pilot.pause()
        assert "no gateway answers" in text_of(app)
        assert "trd-042" in text_of(app), "the last picture stays"
        gateway.gone = False
        await app.refresh_status()
        await pilot.pause()
        assert "no gateway answers" not in text_of(app)


async def test_keys_acknowledge_and_shelve_and_nothing_else_is_ordered():
    gateway = Gateway()
    app = TopApp(ask=gateway, every_s=3600)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("a", "down", "s")
        await pilot.press(*"1h", "space", *"fan")
        await pilot.press("enter")
        await pilot.pause()
        await pilot.press("s", "escape", "u", "t", "p", "x", "enter")
        await pilot.pause()
    orders = [r for r in gateway.asked if r["verb"] not in ("status", "entries")]
    assert orders == [
        {"verb": "ack", "code": "A-120"},
        {"verb": "shelve", "code": "A-160", "for_s": 3600, "reason": "fan"},
        {"verb": "unshelve", "code": "A-190"},
    ]


def test_the_curve_without_braille_is_ascii():
    points = [(k * 1_000_000, float(k)) for k in range(60)]
    assert "\n".join(view.curve(points, [], width=60, height=8, plain=True)).isascii()


def test_the_circle_shows_where_it_is():
    lines = view.circle(terminal("T2", 200_000, -200_000), width=30, height=10)
    row = next(line for line in lines if "●" in line)
    assert row.index("●") > row.index("◇")


@pytest.mark.parametrize("size", range(10, 60))
def test_heights_fill_the_screen(size):
    for count in (2, 3, 4, 8):
        found = view.heights(rows_count=size, terminals_count=count)
        used = (
            3 + found.diagram_height + found.plot_height + found.trades_height + found.alarms_height
        )
        assert used <= size or found.plot_height == 0


def test_without_a_terminal_it_says_what_to_use(sopgw):
    answer = sopgw("top", "--json")
    assert answer.exit_code == 2
    assert "status --watch" in answer.json["errors"][0]["help"]
