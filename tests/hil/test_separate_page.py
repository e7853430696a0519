"""What people see of a gateway whose terminals have controllers of their own, from READY on."""

import asyncio
import json
import random
import re
import sys

import aiohttp
import pytest
from fakes.promises import broken
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


async def doctor(rig):
    """What ``sopgw doctor converters`` says beside the running gateway."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "doctor", "converters", "-c", str(rig.site), "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return json.loads(out)["data"]


async def test_the_page_shows_each_converter_and_names_the_one_that_falls_silent(tmp_path):
    rig = Rig(tmp_path, factor=1, separate=True, launch=with_page)
    names, proxies = {"c1", "c2", "c3", "c4"}, []

    async def before_c3():
        url = re.search(r"  c3: .*127.0.0.1:(\d+)", rig.site.read_text())
        proxy = FaultProxy("127.0.0.1", int(url[1]), rng=random.Random(1), wait=asyncio.sleep)
        proxies.append(proxy)
        own = url[0].replace(url[1], str(await proxy.start()))
        rig.site.write_text(rig.site.read_text().replace(url[0], own))

    async with rig.up(before_c3):
        await rig.until(lambda s: s["state"] == "READY")
        status = await rig.status()
        assert [(t["id"], t["master"]) for t in status["terminals"]] == [
            ("T1", True), ("T2", False), ("T3", False), ("T4", False),
        ]  # fmt: skip
        assert status["v_dc_dv"] > 7000
        told = {}
        async with asyncio.timeout(120):  # beside others a converter may be late once
            while {c["status"] for c in told.get("checks", ())} != {"ok"}:
                told = await doctor(rig)
        armed = [c["text"] for c in told["checks"] if c["id"].endswith(".reversion")]
        assert len(armed) == 4
        assert all(text.startswith("armed: 0 W after 5 s") for text in armed), armed
        async with aiohttp.ClientSession(await page_of(rig)) as session:

            async def fetched(path):
                async with session.get(path) as response:
                    assert response.status == 200
                    return await response.text()

            async def until_up(wanted):
                async with asyncio.timeout(120):
                    while True:
                        told = json.loads(await fetched("/state.json"))
                        devices = {d["name"]: d for d in told["devices"]}
                        if {n for n in names & devices.keys() if devices[n]["connected"]} == wanted:
                            return devices, told
                        await asyncio.sleep(0.1)

            devices, told = await until_up(names)
            assert list(devices) == ["c1", "c2", "c3", "c4", "m1", "m2", "m3", "m4"]
            rows = {(p["device"], p["point"]): p for p in told["points"]}
            assert {d for d, _ in rows} >= {*names, "SOP-1"}
            assert {p for d, p in rows if d == "c2"} <= {*MEASURED, *HELD}
            held = rows["c2", "p_set"]
            assert (held["value"], held["raw"], held["quality"]) == ("0", "0000 0000", "good")
            assert 0 <= held["age_ms"] < 60_000
            assert "p_set.reversion_left" in await fetched("/en/points")
            assert 'sopgw_device_up{device="c3"}' in await fetched("/metrics")
            for page in ("", "system"):
                await fetched(f"/en/{page}")

            proxies[0].apply("half_open")
            devices, told = await until_up(names - {"c3"})
            assert devices["c3"]["last_error"].startswith("c3: ")
            assert devices["c3"]["error_count"] > 0
            assert {p["quality"] for p in told["points"] if p["device"] == "c3"} == {"uncertain"}
            await rig.until(lambda s: s["state"] != "READY")
            proxies[0].clear()
            await until_up(names)
        await rig.until(lambda s: s["state"] == "READY")
    await proxies[0].close()
    assert "Traceback" not in rig.log.read_text()
    (config,) = [e["config"] for e in rig.entries() if e["kind"] == "config"]
    assert config["separate"] is True
    assert list(broken(rig.entries())) == []
