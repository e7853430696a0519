"""The page by other people's driver: Playwright drives the installed Chromium, axe judges."""

import asyncio
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from fakes.chromium import AXE, REQUIRED

from gateway.hmi.page import Page

SCRIPT = Path(__file__).parents[2] / "fakes" / "page_by_playwright.mjs"
PLAYWRIGHT = Path(sys.prefix, "npm", "node_modules", "playwright-core")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NODE = shutil.which("node")
PAGES = ("", "trades", "trades/T-0041", "ledger", "points", "alarms", "commissioning", "system")
MISSING = [
    name
    for name, there in (
        ("Chromium", CHROMIUM), ("Node.js", NODE), ("axe-core", AXE.exists()),
        ("playwright-core", PLAYWRIGHT.exists()),
    )
    if not there
]  # fmt: skip


class Records:
    """A trade with its entries, as the ledger would give them."""

    def __init__(self, entries):
        self.entries = entries

    async def trade_entries(self, trade_id):
        return self.entries[:190] if trade_id == "T-0041" else []

    async def latest_entries(self, count):
        return self.entries[-count:]

    async def receipt(self, _trade_id):
        return b"{}"


@pytest.mark.timeout(300)  # a busy machine is no fault
async def test_playwright_finds_every_page_quiet_and_within_reach(view, entries):
    if MISSING:
        (pytest.fail if REQUIRED else pytest.skip)(f"not installed: {', '.join(MISSING)}")
    pictures = Path(os.environ.get("SOPGW_TEST_OUTPUT") or tempfile.gettempdir()) / "sopgw-pages"
    pictures.mkdir(parents=True, exist_ok=True)
    page = Page(lambda: view, Records(entries), period_s=0.5)
    root = f"http://127.0.0.1:{await page.start('127.0.0.1', 0)}"
    try:
        process = await asyncio.create_subprocess_exec(
            NODE, str(SCRIPT), root, CHROMIUM, str(AXE), str(pictures), *PAGES,
            env=os.environ | {"PLAYWRIGHT": str(PLAYWRIGHT)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, errors = await process.communicate()
    finally:
        await page.stop()
    assert process.returncode == 0, errors.decode()
    seen = json.loads(told)
    assert len(seen["requests"]) > len(PAGES)
    assert [r for r in seen["requests"] if not r.startswith(root + "/")] == []
    assert seen["complaints"] == []
    assert seen["violations"] == []
    assert seen["passes"] > 10 * len(PAGES)
    assert seen["wide"] == []
    assert [row[4] for row in seen["figures"]] == ["−0.1 kW", "−150.2 kW", "150.0 kW", "0.0 kW"]
