import asyncio
import contextlib
import json
import random

import aiohttp
import pytest

from gateway.hmi import page as page_module
from gateway.hmi.page import Page
from gateway.hmi.records import ReceiptNotMade


class Records:
    """What a ledger would answer, from a list of entries."""

    def __init__(self, entries, receipts):
        self.entries, self.receipts = entries, receipts

    async def trade_entries(self, trade_id):
        return self.entries[:190] if trade_id == "T-0041" else []

    async def latest_entries(self, count):
        return self.entries[-count:]

    async def receipt(self, trade_id):
        if trade_id == "T-0043":
            raise ReceiptNotMade(trade_id)
        return self.receipts.get(trade_id)


class Site:
    """A site whose view the test changes."""

    def __init__(self, view):
        self.view = view

    def __call__(self):
        return self.view


@pytest.fixture
def site(view):
    return Site(view)


@pytest.fixture
async def opened(site, entries):
    page = Page(site, Records(entries, {"T-0041": b'{"a":1}'}), period_s=0.02)
    port = await page.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session
    await page.stop()


@contextlib.asynccontextmanager
async def following(session, address="/events/en/overview"):
    async with session.get(address) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"

        async def next_event():
            async for raw in response.content:
                if raw.startswith(b"data: "):
                    return json.loads(raw[6:])
            return None

        yield next_event


async def test_every_page_in_every_language(opened):
    for language in ("en", "zh", "de", "es"):
        for page in ("", "trades", "ledger", "points", "alarms", "commissioning", "system"):
            async with opened.get(f"/{language}/{page}") as response:
                assert response.status == 200, (language, page)
                assert f'lang="{language}"' in await response.text()


async def test_root_follows_the_readers_language(opened):
    for wanted, place in (
        ("de-AT,en;q=0.5", "/de/"),
        ("fr", "/en/"),
        ("zh-CN", "/zh/"),
        ("", "/en/"),
    ):
        async with opened.get("/", headers={"Accept-Language": wanted}, allow_redirects=False) as response:  # fmt: skip
            assert (response.status, response.headers["Location"]) == (302, place)


async def test_every_answer_has_the_strict_headers(opened):
    for address in (
        "/en/",
        "/static/live.js",
        "/metrics",
        "/state.json",
        "/nowhere",
        "/en/nowhere",
    ):
        async with opened.get(address) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Cache-Control"] == "no-store"


async def test_nothing_but_reading_is_possible(opened):
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        for address in ("/en/", "/state.json", "/receipts/T-0041.json", "/events/en/overview"):
            async with opened.request(method, address, data=b"x" * 5000) as response:
                assert response.status == 405, (method, address)


async def test_foreign_host_name_is_refused(opened):
    for name in ("evil.example", "127.0.0.1.evil.example", "", "localhost.", "[::2]"):
        async with opened.get("/en/", headers={"Host": name}) as response:
            assert response.status == 421, name
            assert "SOP-1" not in await response.text()
    for name in ("localhost:1", "LOCALHOST", "[::1]:80", "127.0.0.1"):
        async with opened.get("/en/", headers={"Host": name}) as response:
            assert response.status == 200, name


async def test_the_address_that_one_came_in_on_is_no_foreign_name(site, entries):
    page = Page(site, Records(entries, {}), period_s=0.02)
    port = await page.start("0.0.0.0", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.2:{port}") as session:
        for name, status in (
            (f"127.0.0.2:{port}", 200), ("[127.0.0.2]", 200), ("127.0.0.3", 421), ("127.2", 421),
        ):  # fmt: skip
            async with session.get("/en/", headers={"Host": name}) as response:
                assert response.status == status, name
    await page.stop()


async def test_paths_that_lead_nowhere(opened):
    odd = ("/static/../page.py", "/static/%2e%2e%2fpage.py", "/xx/", "/en/setpoint", "/receipts/..json",
           "/receipts/%00.json", "/receipts/" + "a" * 65 + ".json", "/events/en/x", "/en/trades/a%2Fb")  # fmt: skip
    for address in odd:
        async with opened.get(address) as response:
            assert response.status == 404, address
            assert "Traceback" not in await response.text()


async def test_receipt_is_handed_out_as_it_is(opened):
    async with opened.get("/receipts/T-0041.json") as response:
        assert await response.read() == b'{"a":1}'
        assert 'filename="T-0041.json"' in response.headers["Content-Disposition"]
    async with opened.get("/receipts/T-0042.json") as response:
        assert response.status == 404


async def test_a_receipt_that_could_not_be_made_is_not_said_to_come_yet(opened):
    async with opened.get("/receipts/T-0043.json") as response:
        assert response.status == 503
        assert await response.text() == "not made here: sopgw trade receipt T-0043\n"
        assert "Content-Security-Policy" in response.headers


async def test_one_trades_story(opened):
    async with opened.get("/en/trades/T-0041") as response:
        text = await response.text()
        assert response.status == 200
        assert "Power at terminal T3" in text
        assert "data-events" in text
    async with opened.get("/en/trades/T-none") as response:
        assert response.status == 404
        assert "No such trade" in await response.text()


async def test_state_and_metrics_are_the_view(opened, site):
    async with opened.get("/state.json") as response:
        told = await response.json()
        assert told["terminals"][1]["p_w"] == site.view.terminals[1].p_w
    async with opened.get("/metrics") as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert 'sopgw_dc_link_volts{sop="SOP-1"} 801.2' in await response.text()


async def test_only_what_changed_travels(opened, site, make_view):
    async with following(opened) as next_event:
        first = await next_event()
        assert {"status", "part-one-line", "part-alarms"} <= set(first["parts"])
        site.view = make_view(v_dc_dv=7_995)
        while "part-one-line" not in (told := await next_event())["parts"]:
            pass
        assert "799.5 V" in told["parts"]["part-one-line"]
        assert "part-alarms" not in told["parts"]
        assert told["revision"] == first["revision"]


async def test_standing_scan_is_told(opened, site):
    async with following(opened) as next_event:
        while "stands still" not in (await next_event())["parts"].get("status", ""):
            pass


async def test_page_that_cannot_see_the_site_says_so_in_the_log(site, entries, caplog, view):
    page = Page(site, Records(entries, {}), period_s=0.01)
    await page.start("127.0.0.1", 0)
    site.view = None
    async with asyncio.timeout(60):
        while "sees nothing any more" not in caplog.text:
            await asyncio.sleep(0.01)
    with pytest.raises(AttributeError):
        await page.stop()


async def test_readers_are_bounded_and_let_go(opened, monkeypatch):
    monkeypatch.setattr(page_module, "READERS_MAX", 2)
    async with (
        following(opened),
        following(opened, "/events/de/alarms"),
        opened.get("/events/en/overview") as response,
    ):
        assert response.status == 503
    async with asyncio.timeout(60):
        while True:
            async with opened.get("/events/en/overview") as response:
                if response.status == 200:
                    break


async def test_stop_ends_open_streams_and_frees_the_port(site, entries):
    page = Page(site, Records(entries, {}), period_s=30)
    port = await page.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with following(session) as next_event, asyncio.timeout(60):
            await next_event()
            await page.stop()
            assert await next_event() is None
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("/en/")


async def test_bad_requests_get_an_answer_without_a_trace_and_leave_none_in_the_log(opened, caplog):
    port = opened._base_url.port
    chance = random.Random(5)
    answered = 0
    for _ in range(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        junk = bytes(chance.choice(b"abz/.%<>\x00\xff'&?=") for _ in range(chance.randint(1, 60)))
        line = chance.choice((b"GET /en/", b"POST /", b"TRACE *", b"\x00\x01", b"GET /receipts/"))
        head = chance.choice(
            (b"Host: evil", b"Content-Length: -1", b"A\x00B: c", b"X: " + b"y" * 9_000)
        )
        writer.write(line + junk + b" HTTP/1.1\r\n" + head + b"\r\n\r\n")
        answer = await reader.read(4_000)
        answered += answer.startswith(b"HTTP/1.")
        assert b"Traceback" not in answer
        assert answer[9:10] != b"5"
        writer.close()
        await writer.wait_closed()
    assert answered == 60
    assert "Traceback" not in caplog.text
    async with opened.get("/en/") as response:
        assert response.status == 200
