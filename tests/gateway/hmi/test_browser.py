"""The page in headless Chromium, driven over its DevTools socket: what a reader really gets."""

import asyncio
import dataclasses
import json
import os
import random
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.hmi.accounts import Accounts, new_account, write
from gateway.hmi.login import Login
from gateway.hmi.page import Page
from gateway.hmi.state import FeederView
from gateway.hmi.svg import utc_text
from ledger.audit import delivery

sys.path.insert(0, str(Path(__file__).parents[2] / "fakes"))
import chromium
from gateway_day import full_day
from spoilt_receipt import SPOILT, made_receipt, spoil

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAID = {
    "unreadable": "cannot be read as a receipt",
    "proofs": "entries proven to be in the checkpoint",
    "signature": "checkpoint signed by the given key",
    "badKey": "the key is not a ledger key",
    "figures": "figures equal the proven delivery entries",
    "recomputed": "delivered energy recomputed from the enclosed readings",
    "trade": "trade signed by a signer named in the proven configuration",
}
PAGES = ("", "trades", "trades/T-0041", "ledger", "points", "alarms", "commissioning", "system")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory):
    async with chromium.opened(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


class Records:
    def __init__(self, entries):
        self.entries = entries

    async def trade_entries(self, trade_id):
        return self.entries[:190] if trade_id == "T-0041" else []

    async def latest_entries(self, count):
        return self.entries[-count:]

    async def receipt(self, _trade_id):
        return b"{}"


class Site:
    """A view that the test changes, or that changes at every look."""

    def __init__(self, view):
        self.view, self.after = view, None

    def __call__(self):
        if self.after:
            self.view = self.after(self.view)
        return self.view


@pytest.fixture
def site(view):
    return Site(view)


@pytest_asyncio.fixture(loop_scope="module")
async def root(site, entries):
    page = Page(site, Records(entries), period_s=0.05)
    port = await page.start("127.0.0.1", 0)
    yield f"http://127.0.0.1:{port}"
    await page.stop()


async def test_pages_ask_nobody_else_and_complain_about_nothing(browser, root):
    await browser.screen(1366, 820)
    for page in PAGES:
        await browser.go(f"{root}/en/{page}")
        assert [u for u in browser.requests if not u.startswith(root + "/")] == []
        assert browser.complaints == [], page
        await browser.picture(f"1366-{page.replace('/', '-') or 'overview'}")


async def test_no_sideways_scroll_on_a_phone_nor_on_a_wide_screen(browser, root):
    for width, height in ((390, 844), (320, 640), (1366, 820), (1920, 1080)):
        await browser.screen(width, height)
        for page in PAGES:
            await browser.go(f"{root}/de/{page}")
            wide = await browser.run("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], (page, wide)
        if width == 390:
            await browser.go(f"{root}/zh/")
            await browser.picture("390-overview-zh")


async def test_axe_finds_no_violation(browser, root):
    for media in ({}, {"prefers_color_scheme": "dark"}, {"prefers_reduced_motion": "reduce"}):
        await browser.screen(1366, 820, **media)
        for page in PAGES if len(media) == 0 or "prefers_color_scheme" in media else ("",):
            await browser.go(f"{root}/en/{page}")
            assert await browser.violations() == [], (page, media)


async def test_values_are_the_sites_and_follow_it_without_reload(browser, root, site, make_view):
    await browser.screen(1366, 820)
    await browser.go(f"{root}/en/")
    await browser.run("window.mark = 'kept'")
    said = await browser.run("document.getElementById('part-one-line').textContent")
    assert "−150.2 kW" in said
    assert "801.2 V" in said
    site.view = make_view(v_dc_dv=7_777, utc_us=site.view.utc_us + 1_000_000, alarms=())
    await browser.until("document.getElementById('part-one-line').textContent.includes('777.7 V')")
    assert await browser.run("document.title") == "SOP-1 · Overview"
    assert "No alarm is active" in await browser.run(
        "document.getElementById('part-alarms').textContent"
    )
    assert await browser.run("window.mark") == "kept"


async def test_a_part_that_comes_later_is_shown_without_a_hand(browser, root, site):
    await browser.screen(1366, 820)
    await browser.go(f"{root}/en/")
    limit = FeederView(
        domain="region-b", terminals=("T2",), p_w_min=-50_000, p_w_max=60_000, cause="congestion",
        start_us=site.view.utc_us, end_us=site.view.utc_us + 10**9,
    )  # fmt: skip
    site.view = dataclasses.replace(site.view, feeder=(limit,), utc_us=site.view.utc_us + 10**6)
    await browser.until("document.getElementById('part-feeder')?.textContent.includes('60.0 kW')")
    await browser.go(f"{root}/en/trades/T-0041")
    await browser.run("window.mark = 'kept'")
    site.view = dataclasses.replace(site.view, utc_us=site.view.utc_us + 10**6, trades=())
    clock = utc_text(site.view.utc_us, "%H:%M:%S")
    await browser.until(f"document.getElementById('utc').textContent.startsWith('{clock}')")
    assert await browser.run("window.mark") == "kept"


async def test_update_keeps_focus_scroll_and_search(browser, root, site, make_view):
    await browser.screen(390, 844)
    await browser.go(f"{root}/en/points")
    await browser.run(
        "const f = document.getElementById('search'); f.focus(); f.value = 'M4';"
        "f.dispatchEvent(new Event('input'))"
    )
    shown = "[...document.querySelectorAll('#searched tbody tr')].filter(r => !r.hidden).length"
    assert await browser.run(shown) == 1
    site.view = make_view(
        utc_us=site.view.utc_us + 1_000_000,
        points=tuple(p for p in site.view.points for _ in range(2)),
    )
    await browser.until("document.querySelectorAll('#searched tbody tr').length === 4")
    assert await browser.run(shown) == 2
    assert (
        await browser.run("document.activeElement.id + document.activeElement.value") == "searchM4"
    )


async def test_page_says_that_values_are_old_and_is_live_again_after_a_restart(
    browser, site, entries
):
    page = Page(site, Records(entries), period_s=0.05)
    port = await page.start("127.0.0.1", 0)
    await browser.screen(1366, 820)
    await browser.go(f"http://127.0.0.1:{port}/en/")
    await browser.until("document.getElementById('lost').hidden")
    await page.stop()
    await browser.until("!document.getElementById('lost').hidden")
    await browser.picture("1366-connection-lost")
    site.view = site.view.__class__(
        **{f: getattr(site.view, f) for f in site.view.__slots__} | {"v_dc_dv": 8_123}
    )
    again = Page(site, Records(entries), period_s=0.05)
    await again.start("127.0.0.1", port)
    await browser.until(
        "document.getElementById('lost').hidden &&"
        " document.getElementById('part-one-line').textContent.includes('812.3 V')"
    )
    await again.stop()


async def test_a_person_types_into_the_form_and_leaves_again(browser, site, entries, tmp_path):
    file, password = tmp_path / "accounts.json", "correct horse battery"
    write(file, {"ann": new_account(name="ann", role="viewer", password=password)})
    login = Login(Accounts(file), secure=False)
    page = Page(site, Records(entries), period_s=0.05, login=login)
    root = f"http://127.0.0.1:{await page.start('127.0.0.1', 0)}"
    await browser.screen(1366, 820)
    form = "location.pathname === '/en/login' && document.querySelector('form.login') !== null"
    await browser.call("Page.navigate", url=f"{root}/en/")
    await browser.until(form)
    await browser.run(
        f"document.getElementById('name').value = 'ann';"
        f"document.getElementById('password').value = {json.dumps(password)};"
        "document.querySelector('form.login button').click()"
    )
    await browser.until("document.getElementById('part-one-line') !== null")
    await browser.run("document.querySelector('form[action$=\"/logout\"] button').click()")
    await browser.until(form)
    await browser.call("Page.navigate", url=f"{root}/en/trades")
    await browser.until(f"{form} && document.referrer === ''")
    await page.stop()


async def test_words_of_the_one_line_do_not_overlap(browser, root):
    await browser.screen(1366, 820)
    for language in ("en", "zh", "de", "es"):
        await browser.go(f"{root}/{language}/")
        clashes = await browser.run(
            """(() => {
              const found = [];
              for (const svg of document.querySelectorAll('#part-one-line svg, #part-gantt svg')) {
                const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBBox()]);
                texts.forEach(([a, p], i) => texts.slice(i + 1).forEach(([b, q]) => {
                  if (p.x < q.x + q.width && q.x < p.x + p.width
                      && p.y < q.y + q.height && q.y < p.y + p.height) found.push([a, b]);
                }));
              }
              return found;
            })()"""
        )
        assert clashes == [], language


async def test_blinking_stops_where_motion_is_not_wanted(browser, root):
    style = "getComputedStyle(document.querySelector('.priority.fresh')).animationName"
    await browser.screen(1366, 820)
    await browser.go(f"{root}/en/alarms")
    assert await browser.run(style) == "blink"
    await browser.screen(1366, 820, prefers_reduced_motion="reduce")
    assert await browser.run(style) == "none"


async def test_pictures_of_other_looks(browser, root):
    for name, media in (
        ("dark", {"prefers_color_scheme": "dark"}),
        ("forced-colors", {"forced_colors": "active"}),
    ):
        await browser.screen(1366, 820, **media)
        await browser.go(f"{root}/en/")
        assert (await browser.picture(f"1366-{name}")).stat().st_size > 10_000


@pytest.mark.timeout(1800)  # the long form
async def test_a_day_of_fast_time_does_not_grow_the_page(browser, site, entries):
    """A day after four hours, in steps of five minutes, or with SOPGW_ALL_WAYS=1 of ten seconds: heap stays."""
    step_s = 10 if os.environ.get("SOPGW_ALL_WAYS") == "1" else 300

    def later(view):
        """Time goes on: the voltage wanders and each quarter hour brings a trade."""
        fields = {f: getattr(view, f) for f in view.__slots__}
        count[0] += 1
        now_us = view.utc_us + step_s * 1_000_000
        quarter = now_us // 900_000_000
        trades = [
            dataclasses.replace(
                view.trades[0], id=f"T-{q}", start_us=q * 900_000_000, end_us=(q + 1) * 900_000_000
            )
            for q in range(quarter - 8, quarter + 8)
        ]
        return view.__class__(
            **fields | {"utc_us": now_us, "v_dc_dv": 8_000 + count[0] % 50, "trades": tuple(trades)}
        )

    async def weigh_after(hours):
        end_us = began_us + hours * 3_600_000_000
        site.after = later
        while site.view.utc_us < end_us:
            await asyncio.sleep(0.02)
        site.after = None
        clock = utc_text(site.view.utc_us, "%H:%M:%S")
        await browser.until(f"document.getElementById('utc').textContent.startsWith('{clock}')")
        await browser.call("HeapProfiler.collectGarbage")
        told = (await browser.call("Performance.getMetrics"))["metrics"]
        return {m["name"]: m["value"] for m in told}

    count, began_us = [0], site.view.utc_us
    await browser.screen(1366, 820)
    page = Page(site, Records(entries), period_s=0.005)
    port = await page.start("127.0.0.1", 0)
    await browser.go(f"http://127.0.0.1:{port}/en/")
    before, after = await weigh_after(4), await weigh_after(28)
    for _ in range(60):  # what was let go of may wait for the next collection
        if after["Nodes"] <= before["Nodes"] + 200:
            break
        await asyncio.sleep(0.5)
        after = await weigh_after(28)
    await page.stop()
    told = [(m["Nodes"], m["JSHeapUsedSize"], m["JSEventListeners"]) for m in (before, after)]
    print(f"{count[0]} updates; nodes, heap, listeners before and after: {told}")
    assert after["Nodes"] <= before["Nodes"] + 200, told
    assert after["JSHeapUsedSize"] <= before["JSHeapUsedSize"] + 1_000_000, told


@pytest.mark.parametrize(("what", "said"), SPOILT)
async def test_receipt_is_checked_in_the_browser(browser, root, tmp_path, what, said):
    receipt, vkey = await made_receipt(tmp_path / "ledger", full_day().entries)
    vkey = spoil(receipt, what, vkey)
    verdict = await checked(browser, root, tmp_path, receipt, vkey)
    assert f"✕ {SAID[said]}" in verdict if said else "no errors were found" in verdict
    assert ("verification failed" in verdict) is (what != "nothing")
    if what == "nothing":
        assert verdict.count("✓") == 5
        await browser.picture("1366-receipt-checked")


async def test_wrong_figure_in_a_true_ledger_is_found_by_the_readings(browser, root, tmp_path):
    day = full_day().entries
    for entry in day:
        if entry["kind"] == "delivery":
            for row in entry["trades"]:
                row["delivered_wh"] += 3
    receipt, vkey = await made_receipt(tmp_path / "ledger", day, "A-2")
    verdict = await checked(browser, root, tmp_path, receipt, vkey)
    assert "✓ figures equal the proven delivery entries" in verdict
    assert "✕ delivered energy recomputed from the enclosed readings" in verdict
    assert "verification failed" in verdict


def made_interval(chance):
    """Return a configuration, a plan and readings with gaps, bad rows, odd instants, new meters."""
    terminals = [
        {"id": f"T{k}", "meter": f"m{k}", "s_va": chance.choice((100_000, 250_000))}
        for k in range(1, chance.randint(3, 5))
    ]
    trades = []
    for k in range(chance.randint(1, 6)):
        out, into = chance.sample([t["id"] for t in terminals], 2)
        contracted = chance.choice((0, 5, chance.randint(1, 60_000)))
        planned = chance.choice((contracted, contracted * chance.randint(0, 100) // 100))
        trades.append(
            {"trade_id": f"t{k}", "out_terminal": out, "in_terminal": into,
             "contracted_wh": contracted, "planned_wh": planned}
        )  # fmt: skip
    start_us = 1_767_319_200_000_000
    readings = []
    counts = {t["id"]: [chance.randint(0, 10**12), chance.randint(0, 10**12)] for t in terminals}
    meters = {t["id"]: t["meter"] for t in terminals}
    at = start_us - chance.choice((0, 3_000_000, 17_000_001))
    while at < start_us + 900_000_000 + chance.choice((-5_000_000, 0, 9_999_999)):
        rows = []
        if chance.random() < 0.01:  # reset, or exchanged for another
            changed = chance.choice(list(counts))
            counts[changed] = [chance.randint(0, 900), chance.randint(0, 900)]
            meters[changed] += chance.choice(("", "b"))
        for terminal, count in counts.items():
            count[chance.randint(0, 1)] += chance.randint(0, 400)
            if chance.random() < 0.97:
                quality = "good" if chance.random() < 0.97 else "bad"
                rows.append(
                    {"meter": meters[terminal], "terminal": terminal,
                     "utc_us": at + chance.randint(0, 900), "quality": quality,
                     "import_wh": count[0], "export_wh": count[1]}
                )  # fmt: skip
        readings.append({"meters": rows})
        if chance.random() < 0.01:  # the clock was set back
            readings.append({"kind": "time_step", "utc_us": at - chance.randint(0, 60_000_000)})
        at += chance.randint(1_000_000, 40_000_000)
    plan = {
        "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
        "trades": trades,
    }
    return {"master": "T1", "terminals": terminals}, plan, readings


async def test_browser_settles_as_the_auditor_does(browser, root):
    chance = random.Random(20)
    cases = [made_interval(chance) for _ in range(300)]
    await browser.go(f"{root}/en/ledger")
    await browser.run("import('/static/settle.js').then(m => { window.rule = m; return true; })")
    told = await browser.run(
        f"{json.dumps(cases)}.map(([config, plan, readings]) => "
        "rule.settle(config, plan, rule.counters(readings)))"
    )
    assert {s["status"] for found in told for s in found.values()} == {
        "delivered", "partial", "failed", "cancelled",
    }  # fmt: skip
    for (config, plan, readings), found in zip(cases, told, strict=True):
        expected = delivery.settle(config=config, plan=plan, readings=delivery.counters(readings))
        assert found == {
            name: {"delivered_wh": t.delivered_wh, "status": t.status}
            for name, t in expected.trades.items()
        }


async def checked(browser, root, folder, receipt, vkey):
    """Return what the page says of a receipt file."""
    path = folder / "receipt.json"
    path.write_text(json.dumps(receipt))
    await browser.screen(1366, 820)
    await browser.go(f"{root}/en/ledger")
    document = await browser.call("DOM.getDocument")
    node = await browser.call(
        "DOM.querySelector", nodeId=document["root"]["nodeId"], selector="#receipt"
    )
    await browser.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node["nodeId"])
    await browser.run(f"document.getElementById('vkey').value = {json.dumps(vkey)}")
    await browser.until("document.getElementById('check').dataset.ready === 'yes'")
    await browser.run("document.getElementById('check').click()")
    await browser.until("document.getElementById('outcome') !== null")
    return await browser.run("document.getElementById('verdict').textContent")
