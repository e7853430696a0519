"""The page of a gateway on a site whose terminals have controllers of their own."""

import asyncio
import json
import random
import re

import aiohttp
import pytest
from fakes.rig import Rig, executed

from firmware_sim.proxy import FaultProxy
from gateway.devices.converter import HELD, MEASURED

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others


async def with_page(arguments, log):
    """Start the gateway with a page on any port."""
    return await executed([*arguments, "--web-port", "0"], log)


async def page_of(rig):
    """Wait until the page is open; its address."""
    async with asyncio.timeout(60):
        while not (found := re.search(r"page on (http://[0-9.:]+)", rig.log.read_text())):
            await asyncio.sleep(0.05)
    return found[1]


async def test_the_page_shows_each_converter_with_its_points_and_registers(tmp_path):
    rig = Rig(tmp_path, factor=1, separate=True, launch=with_page)
    names = ["c1", "c2", "c3", "c4"]
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        async with aiohttp.ClientSession(await page_of(rig)) as session:

            async def fetched(path):
                async with session.get(path) as response:
                    assert response.status == 200
                    return await response.text()

            async with asyncio.timeout(60):
                devices = {}
                while not all(n in devices and devices[n]["connected"] for n in names):
                    told = json.loads(await fetched("/state.json"))
                    devices = {d["name"]: d for d in told["devices"]}
            assert list(devices)[:4] == names
            assert [t["state"] for t in told["terminals"]] == ["STANDBY"] * 4
            rows = {(p["device"], p["point"]): p for p in told["points"]}
            assert {d for d, _ in rows} >= {*names, "SOP-1"}
            assert {p for d, p in rows if d == "c2"} <= {*MEASURED, *HELD}
            held = rows["c2", "p_set"]
            assert (held["value"], held["raw"], held["quality"]) == ("0", "0000 0000", "good")
            assert 0 <= held["age_ms"] < 60_000
            assert "p_set.reversion_left" in await fetched("/en/points")
            assert 'sopgw_device_up{device="c3"}' in await fetched("/metrics")
            for page in ("", "system", "ledger", "alarms", "commissioning"):
                await fetched(f"/en/{page}")
    assert "Traceback" not in rig.log.read_text()


async def test_a_converter_that_falls_silent_is_named_and_the_others_are_still_seen(tmp_path):
    rig = Rig(tmp_path, factor=1, separate=True, launch=with_page)
    proxies = []

    async def before_c3():
        url = re.search(r"  c3: .*127.0.0.1:(\d+)", rig.site.read_text())
        proxy = FaultProxy("127.0.0.1", int(url[1]), rng=random.Random(1), wait=asyncio.sleep)
        proxies.append(proxy)
        own = url[0].replace(url[1], str(await proxy.start()))
        rig.site.write_text(rig.site.read_text().replace(url[0], own))

    async with rig.up(before_c3):
        await rig.until(lambda s: s["state"] == "READY")
        async with aiohttp.ClientSession(await page_of(rig)) as session:

            async def until_seen(condition):
                async with asyncio.timeout(120):
                    while True:
                        async with session.get("/state.json") as response:
                            told = await response.json()
                        devices = {d["name"]: d for d in told["devices"]}
                        if condition(devices):
                            return devices, told
                        await asyncio.sleep(0.1)

            def up(devices):
                return {n for n in ("c1", "c2", "c3", "c4") if devices[n]["connected"]}

            proxies[0].apply("half_open")
            devices, told = await until_seen(lambda d: up(d) == {"c1", "c2", "c4"})
            assert devices["c3"]["last_error"].startswith("c3: ")
            assert devices["c3"]["error_count"] > 0
            assert {p["quality"] for p in told["points"] if p["device"] == "c3"} == {"uncertain"}
            await rig.until(lambda s: s["state"] != "READY")
            proxies[0].clear()
            await until_seen(lambda d: up(d) == {"c1", "c2", "c3", "c4"})
        await rig.until(lambda s: s["state"] == "READY")
    await proxies[0].close()
    assert "Traceback" not in rig.log.read_text()
