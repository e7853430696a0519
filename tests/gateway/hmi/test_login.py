"""The page with accounts: who gets in, who does not, and what the audit hears."""

import asyncio

import aiohttp
import pytest

from gateway.hmi import accounts, doorkeeper
from gateway.hmi.accounts import Accounts, new_account, write
from gateway.hmi.login import Login
from gateway.hmi.page import Page

PASSWORD = "correct horse battery"
HTML = {"Accept": "text/html"}
DOORS = (
    "/", "/en/", "/en/trades", "/en/trades/T-0041", "/en/trades/login", "/en/trades/logout", "/de/ledger", "/en/points", "/en/alarms",
    "/en/commissioning", "/en/system", "/state.json", "/receipts/T-0041.json",
    "/events/en/overview",
)  # fmt: skip


class NoRecords:
    async def trade_entries(self, _trade_id):
        return []

    async def latest_entries(self, _count):
        return []

    async def receipt(self, _trade_id):
        return None


NAMED = "page.example"


@pytest.fixture
async def door(view, tmp_path, monkeypatch):
    monkeypatch.setattr(accounts, "MEMORY_KIB", 64)
    file = tmp_path / "accounts.json"
    write(file, {"ann": new_account(name="ann", role="viewer", password=PASSWORD)})
    heard = []

    async def audit(event, name, address):
        heard.append((event, name, address))

    page = Page(
        lambda: view, NoRecords(), period_s=0.02, names=[NAMED],
        login=Login(Accounts(file), audit, names=[NAMED], secure=False),
    )  # fmt: skip
    port = await page.start("127.0.0.1", 0)
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        session.base, session.heard, session.file = base, heard, file
        yield session
    await page.stop()


async def typed(door, name="ann", password=PASSWORD, **headers):
    sent = {"Origin": door.base, **headers}
    form = {"name": name, "password": password}
    answer = await door.post("/en/login", data=form, headers=sent, allow_redirects=False)
    async with answer:
        return answer.status


async def test_a_stranger_sees_nothing_but_the_form(door):
    for address in DOORS:
        async with door.get(address, allow_redirects=False) as answer:
            assert answer.status == 401, address
            assert "SOP-1" not in await answer.text()
        async with door.get(address, headers=HTML, allow_redirects=False) as answer:
            assert answer.status == 303, address
            assert answer.headers["Location"].endswith("/login")
    async with door.get("/de/login") as answer:
        assert answer.status == 200
        assert "Anmelden" in await answer.text()
        assert "form-action 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("data", "headers", "status"),
    [
        (b"name=\xff", {"Content-Type": "application/x-www-form-urlencoded"}, 400),
        (b"name=a", {"Content-Type": "application/x-www-form-urlencoded; charset=x"}, 400),
        (b"name=a", {"Content-Type": "multipart/form-data"}, 400),
        (b"name=a", {"Origin": "http://["}, 403),
        (
            b"name=a&password=\\ud800",
            {"Content-Type": "application/x-www-form-urlencoded; charset=unicode_escape"},
            401,
        ),
    ],
)
async def test_what_is_no_form_is_refused_in_the_pages_own_words(door, data, headers, status):
    sent = {"Origin": door.base, **headers}
    async with door.post("/en/login", data=data, headers=sent) as answer:
        assert answer.status == status
        assert "Content-Security-Policy" in answer.headers


async def test_a_cookie_that_is_no_text_is_a_strangers(door):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.base.rpartition(":")[2]))
    writer.write(
        b"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Cookie: sopgw-session=\xff\r\n\r\n"
    )
    assert (await reader.read()).startswith(b"HTTP/1.1 401")
    writer.close()
    await writer.wait_closed()


async def test_metrics_stay_open_to_this_machine(door):
    async with door.get("/metrics") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
async def test_whom_a_proxy_on_this_machine_speaks_for_is_a_stranger_to_metrics(door, header):
    async with door.get("/metrics", headers={header: "192.0.2.7"}) as answer:
        assert answer.status == 401


async def test_the_right_password_opens_every_door_until_one_leaves(door):
    assert await typed(door) == 303
    for address in DOORS[1:-1]:
        async with door.get(address, headers=HTML, allow_redirects=False) as answer:
            assert answer.status in (200, 404), address
    async with door.get("/en/") as answer:
        assert "/en/logout" in await answer.text()
    leaving = await door.post("/en/logout", headers={"Origin": door.base}, allow_redirects=False)
    assert leaving.status == 303
    async with door.get("/state.json") as answer:
        assert answer.status == 401
    assert [(event, name) for event, name, _ in door.heard] == [("entered", "ann"), ("left", "ann")]


async def test_a_wrong_name_and_a_wrong_password_look_the_same_and_are_told(door):
    said = []
    for name, password in (("ann", "wrong password"), ("nobody", PASSWORD)):
        form = {"name": name, "password": password}
        async with door.post("/en/login", data=form, headers={"Origin": door.base}) as answer:
            assert answer.status == 401
            assert "Set-Cookie" not in answer.headers
            said.append(await answer.text())
    assert said[0] == said[1]
    assert [(event, name) for event, name, _ in door.heard] == [
        ("refused", "ann"),
        ("refused", "unknown"),
    ]


async def test_too_many_tries_lock_and_the_right_password_waits_too(door):
    for _ in range(doorkeeper.TRIES_MAX):
        assert await typed(door, password="wrong password") == 401
    assert await typed(door) == 429
    events = [event for event, _, _ in door.heard]
    assert events == ["refused"] * (doorkeeper.TRIES_MAX - 1) + ["locked"]


async def test_forms_of_other_pages_are_refused(door):
    assert await typed(door, Origin="http://evil.example") == 403
    form = {"name": "ann", "password": PASSWORD}
    async with door.post("/en/login", data=form, allow_redirects=False) as answer:
        assert answer.status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://page.example"},  # the proxy asks under its own name for us
        {"Origin": "https://page.example:8443", "Host": "page.example"},  # it drops the port
        {"Origin": "https://page.example", "Host": "page.example"},
    ],
)
async def test_one_logs_in_and_out_through_a_proxy_under_a_name_of_the_site_file(door, headers):
    assert await typed(door, **headers) == 303
    async with door.post("/en/logout", headers=headers, allow_redirects=False) as answer:
        assert answer.status == 303
    assert [event for event, _, _ in door.heard] == ["entered", "left"]


@pytest.mark.parametrize(
    "origin",
    ["https://page.example.evil.example", "https://evil.example/page.example", "null", "",
     "https://page.example@evil.example", "page.example"],
)  # fmt: skip
async def test_a_name_of_the_site_file_admits_no_other_page(door, origin):
    assert await typed(door, Origin=origin) == 403


def origin_of_form(headers, base):
    """The origin that a browser says with a form of a document with these headers (Fetch 3.2)."""
    return "null" if headers["Referrer-Policy"] == "no-referrer" else base


async def test_the_pages_own_forms_carry_an_origin_that_the_login_knows(door):
    async with door.get("/en/login") as form:
        said = origin_of_form(form.headers, door.base)
    assert await typed(door, Origin=said) == 303
    async with door.get("/en/") as document:
        said = origin_of_form(document.headers, door.base)
    leaving = await door.post("/en/logout", headers={"Origin": said}, allow_redirects=False)
    assert leaving.status == 303
    assert [event for event, _, _ in door.heard] == ["entered", "left"]


async def test_a_form_that_says_no_origin_is_nobodys(door):
    assert await typed(door, Origin="null") == 403


async def test_the_cookie_is_kept_from_scripts_and_other_sites(door):
    form = {"name": "ann", "password": PASSWORD}
    answer = await door.post(
        "/en/login", data=form, headers={"Origin": door.base}, allow_redirects=False
    )
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie


async def test_whoever_loses_the_account_is_out_at_once_and_the_stream_ends(door):
    assert await typed(door) == 303
    async with door.get("/events/en/overview") as stream:
        assert stream.status == 200
        write(door.file, {"bob": new_account(name="bob", role="viewer", password=PASSWORD)})
        async for _ in stream.content:
            pass  # the stream ends by itself
    async with door.get("/state.json") as answer:
        assert answer.status == 401


async def test_a_body_too_large_is_refused(door):
    assert await typed(door, password="x" * 5000) == 413
