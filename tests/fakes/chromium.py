"""One page of a headless Chromium over its DevTools socket."""

import asyncio
import base64
import itertools
import json
import os
import tempfile
from pathlib import Path

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--lang=en",
)  # fmt: skip


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
            while not await self.run(script):
                await asyncio.sleep(0.02)

    async def go(self, address):
        self.requests.clear()
        self.complaints.clear()
        await self.call("Page.navigate", url=address)
        path = address.partition("//")[2].partition("/")[2]
        await self.until(
            f"document.readyState === 'complete' && location.pathname === '/{path}'"
            " && document.getElementById('status') !== null"
        )

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
