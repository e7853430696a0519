"""One page of a headless Chromium over its DevTools socket."""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import aiohttp
import pytest

AXE = Path(os.environ.get("SOPGW_AXE", f"{sys.prefix}/npm/node_modules/axe-core/axe.min.js"))
AXE_RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa']}"
REQUIRED = os.environ.get("SOPGW_REQUIRE_SERVERS") == "1"
FLAGS = (
    "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--lang=en",
)  # fmt: skip


@contextlib.asynccontextmanager
async def opened(home):
    """Start Chromium with one tab; a test is left out by name, or fails, where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        if REQUIRED:
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS, f"--user-data-dir={home}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    address = None
    async with asyncio.timeout(60):
        while address is None:
            line = (await process.stderr.readline()).decode()
            assert line, "Chromium ended before it listened"
            if "DevTools listening on " in line:
                address = line.rpartition(" ")[2].strip()
    drained = asyncio.create_task(process.stderr.read())
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address, max_msg_size=0) as socket,
    ):
        browser = Browser(socket)
        await browser.open_tab()
        try:
            yield browser
        finally:
            browser.session = None
            await browser.call("Browser.close")
            browser.reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await browser.reader
            await process.wait()
            await drained


class Browser:
    """One page of a headless Chromium over the DevTools protocol."""

    def __init__(self, socket):
        self.socket = socket
        self.ids = itertools.count(1)
        self.waiting, self.session = {}, None
        self.requests, self.complaints = [], []
        self.reader = asyncio.create_task(self._read())

    async def _read(self):
        async for message in self.socket:
            told = json.loads(message.data)
            if "id" in told:
                self.waiting.pop(told["id"]).set_result(told)
            elif told["method"] == "Network.requestWillBeSent":
                self.requests.append(told["params"]["request"]["url"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(told["params"]["exceptionDetails"]["text"])
            elif told["method"] == "Runtime.consoleAPICalled":
                if told["params"]["type"] in {"error", "warning", "assert"}:
                    self.complaints.append(str(told["params"]["args"]))
            elif told["method"] == "Log.entryAdded":
                entry = told["params"]["entry"]
                if entry["level"] in {"error", "warning"}:
                    self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    async def call(self, method, **params):
        number = next(self.ids)
        future = asyncio.get_running_loop().create_future()
        self.waiting[number] = future
        body = {"id": number, "method": method, "params": params}
        await self.socket.send_json(body | ({"sessionId": self.session} if self.session else {}))
        async with asyncio.timeout(60):
            answer = await future
        assert "error" not in answer, (method, answer)
        return answer["result"]

    async def open_tab(self):
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        told = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = told["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Performance"):
            await self.call(f"{domain}.enable")

    async def run(self, script):
        told = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, script, seconds=60):
        async with asyncio.timeout(seconds):
            while not await self._true(script):
                await asyncio.sleep(0.02)

    async def _true(self, script):
        try:
            return await self.run(script)
        except AssertionError as error:  # the page is being left: the next one is asked
            if "navigated" not in str(error):
                raise
            return False

    async def go(self, address):
        self.requests.clear()
        self.complaints.clear()
        await self.call("Page.navigate", url=address)
        path = address.partition("//")[2].partition("/")[2]
        await self.until(
            f"document.readyState === 'complete' && location.pathname === '/{path}'"
            " && document.getElementById('status') !== null"
        )

    async def violations(self):
        """What axe finds on the page: rule and the elements."""
        if not AXE.exists():
            if REQUIRED:
                pytest.fail(f"axe-core is not installed at {AXE}")
            pytest.skip("axe-core is not installed")
        await self.run(AXE.read_text() + "; true")
        told = await self.run(
            f"axe.run(document, {AXE_RULES}).then(r => ({{passes: r.passes.length, found: "
            "r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])}))"
        )
        assert told["passes"] > 10
        return told["found"]

    async def screen(self, width, height, **media):
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip
        features = [{"name": k.replace("_", "-"), "value": v} for k, v in media.items()]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self, name):
        folder = Path(os.environ.get("SOPGW_TEST_OUTPUT") or tempfile.gettempdir()) / "sopgw-pages"
        folder.mkdir(parents=True, exist_ok=True)
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path = folder / f"{name}.png"
        path.write_bytes(base64.b64decode(shot["data"]))
        return path
