"""The page beside a real gateway on a simulated site: what it shows is what the devices say."""

import asyncio
import contextlib
import dataclasses
import json
import re
import sys
from html import escape
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import app
from gateway.cli import demo_bench, web
from gateway.cli.demo_bench import Ports
from gateway.config.site_file import load_site
from gateway.runtime.clock import BenchClock, SystemClock

PORT = re.compile(r"page on http://127\.0\.0\.1:(\d+)")


def site_of(folder, change=lambda text: text, *, broker=5):
    """Write a demo's site whose devices nobody serves, changed; return it as it is loaded."""
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    ports = Ports(station_port=9, meter_ports=(1, 2, 3, 4), broker_port=broker)
    path = folder / "site.yaml"
    path.write_text(change(demo_bench.site_text(ports, signer)))
    return load_site(path)


def parts_of(site):
    """Assemble the gateway of a site as a start does."""
    return app.assemble(site, site.sops[0], SystemClock())


async def page_port(log):
    async with asyncio.timeout(60):
        while not (found := PORT.search(log.read_text() if log.exists() else "")):
            await asyncio.sleep(0.05)
    return int(found[1])


@pytest.mark.slow
async def test_page_shows_what_the_simulated_devices_say(tmp_path):
    clock = BenchClock.start(utc_epoch_us=1_767_319_000_000_000, factor=1)
    clock.save(tmp_path / "timebase.json")
    signer = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    async with (
        demo_bench.simulated_devices(tmp_path, seed=1) as (station, meters),
        demo_bench.broker(tmp_path) as (broker, _),
    ):
        ports = Ports(station_port=station, meter_ports=meters, broker_port=broker)
        site = tmp_path / "site.yaml"
        site.write_text(demo_bench.site_text(ports, signer))
        log = tmp_path / "gateway.log"
        arguments = (
            sys.executable, "-m", "gateway", "run", "-v", "-c", str(site), "--web-port", "0",
            "--timebase", str(tmp_path / "timebase.json"),
        )  # fmt: skip
        async with demo_bench.process(*arguments, log=log):
            root = f"http://127.0.0.1:{await page_port(log)}"
            async with aiohttp.ClientSession(root) as session:
                async with asyncio.timeout(60):
                    while True:
                        async with session.get("/state.json") as response:
                            told = await response.json()
                        known = [t["meter_p_w"] is not None for t in told["terminals"]]
                        if told["v_dc_dv"] and all(known) and not told["alarms"]:
                            break
                        await asyncio.sleep(0.1)
                assert [t["id"] for t in told["terminals"]] == ["T1", "T2", "T3", "T4"]
                assert 7_800 <= told["v_dc_dv"] <= 8_200
                assert told["simulated"]
                assert {d["name"] for d in told["devices"] if d["connected"]} == {"station", "m1", "m2", "m3", "m4"}  # fmt: skip
                assert told["ledger"]["size"] > 3
                async with session.get("/en/ledger") as response:
                    assert "boot" in await response.text()
                async with session.get("/metrics") as response:
                    assert 'sopgw_device_up{device="station"} 1' in await response.text()
            assert Path(site.parent / "ledger").is_dir()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("clock", "simulated", "error_ms"), [("kernel", False, 7), ("kernel", True, None), ("assumed", False, None)]
)  # fmt: skip
async def test_the_clock_error_is_told_where_the_kernel_vouches_for_time(
    tmp_path, monkeypatch, clock, simulated, error_ms
):
    from gateway.commissioning.clock import KernelClock
    from gateway.commissioning.runs import passive

    said = KernelClock(status_bits=0, error_us_max=7_900, error_us=10)
    monkeypatch.setattr(passive, "kernel_clock", lambda: said)
    told = []
    monkeypatch.setattr(web, "note", told.append)
    site = site_of(tmp_path, lambda text: text.replace("scan: 1 s", f"scan: 1 s, clock: {clock}"))
    parts = parts_of(site)
    beside = web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=simulated)
    async with beside(parts):
        root = told[0].removeprefix("page at ").rstrip("/")
        async with aiohttp.ClientSession(root) as session, session.get("/state.json") as response:
            assert (await response.json())["clock_error_ms"] == error_ms
    await parts.journal.close()


async def test_the_page_tells_that_the_scan_stands_still_however_often_it_looks(
    tmp_path, monkeypatch
):
    from gateway.hmi.language import Words

    monkeypatch.setattr(web, "FROZEN_TICKS", 1)
    monkeypatch.setattr(web, "FROZEN_SCANS", 0)
    said = []
    monkeypatch.setattr(web, "note", said.append)
    site = site_of(tmp_path)
    parts = parts_of(site)
    stands = escape(Words("en")("page.frozen"))

    async def until(session, shown):
        async with asyncio.timeout(60):
            while True:
                async with session.get("/en/") as response:
                    if (stands in await response.text()) is shown:
                        return
                await asyncio.sleep(0.1)

    async with web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=True)(parts):
        root = said[0].removeprefix("page at ").rstrip("/")
        async with aiohttp.ClientSession(root) as session:
            await until(session, shown=True)  # nobody runs it
            parts.scan.ended_us += 1
            await until(session, shown=False)
    await parts.journal.close()


@pytest.mark.parametrize("separate", [False, True], ids=["station", "converters"])
async def test_what_stands_still_answers_and_is_not_believed(tmp_path, separate):
    from fakes.core import make_station
    from fakes.rig import separated

    from gateway.cli.web import devices

    site = site_of(tmp_path, separated) if separate else site_of(tmp_path)
    parts = parts_of(site)
    now_us = parts.clock.mono_us()
    parts.poller.link_up, parts.poller.last = True, make_station(mono_us=now_us)
    if separate:
        parts.station.last = {t: make_station(mono_us=now_us) for t in site.sops[0].converters}

    def told():
        names = site.sops[0].controllers
        found = devices(site, site.sops[0], parts, {})
        return {(d.connected, d.frozen, d.stale) for d in found if d.name in names}

    assert told() == {(True, False, False)}
    parts.poller.frozen = True
    assert told() == {(True, True, True)}
    await parts.journal.close()


@pytest.mark.parametrize("separate", [False, True], ids=["station", "converters"])
async def test_what_is_not_sure_of_its_own_values_is_not_believed(tmp_path, monkeypatch, separate):
    from fakes.core import make_station
    from fakes.rig import separated

    from gateway.devices.converter_reading import ConverterReading
    from gateway.model.telemetry import Quality, State

    site = site_of(tmp_path, separated) if separate else site_of(tmp_path)
    parts, config = parts_of(site), site.sops[0]
    now_us = parts.clock.mono_us()
    parts.poller.link_up = True
    if separate:
        zeros = {f.name: 0 for f in dataclasses.fields(ConverterReading)}
        seen = ConverterReading(**zeros | {"mono_us": now_us, "state": State.RUN})
        parts.station.last = dict.fromkeys(config.converters, seen)
        monkeypatch.setattr(parts.station, "words", lambda terminal: {})

    def told():
        names = config.controllers
        found = web.devices(site, config, parts, {})
        said = web.points(config, parts.poller.last, parts, {})
        qualities = {p.quality for p in said if p.device in names}
        return {(d.unsure, d.stale) for d in found if d.name in names}, qualities

    parts.poller.last = make_station(mono_us=now_us)
    assert told() == ({(False, False)}, {"good"})
    parts.poller.last = make_station(mono_us=now_us, quality=Quality.UNCERTAIN)
    assert told() == ({(True, True)}, {"uncertain"})
    await parts.journal.close()


@pytest.mark.parametrize(
    ("silent", "failed"), [({"T3"}, {"c3"}), (set(), {"c1", "c2", "c3", "c4"})]
)
async def test_a_failed_poll_is_counted_for_the_converters_that_were_silent(
    tmp_path, silent, failed
):
    from fakes.rig import separated

    from gateway.hmi.state import DeviceView, PollTimes

    site = site_of(tmp_path, separated)
    parts, config, times = parts_of(site), site.sops[0], PollTimes()
    web._taken(times, config, parts.station, 3, answered=True)
    parts.station.silent = frozenset(silent)
    web._taken(times, config, parts.station, 900, answered=False)
    bare = [DeviceView(name=c, kind="k", address="a", connected=True) for c in config.controllers]
    told = {d.name: (d.request_count, d.error_count) for d in map(times.into, bare)}
    assert told == {c: (2, int(c in failed)) for c in ("c1", "c2", "c3", "c4")}
    await parts.journal.close()


@contextlib.asynccontextmanager
async def page_of(site, parts, monkeypatch):
    """Open the page beside a gateway that nobody runs; give what asks for its addresses."""
    said = []
    monkeypatch.setattr(web, "note", said.append)
    async with web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=True)(parts):
        root = said[0].removeprefix("page at ").rstrip("/")
        async with aiohttp.ClientSession(root) as session:

            async def fetched(path):
                async with session.get(path) as response:
                    return await response.text()

            yield fetched


async def test_readings_of_an_exchanged_meter_are_not_told_as_the_new_ones(tmp_path, monkeypatch):
    def exchanged(text):
        return text.replace("  m2: ", "  m9: ").replace("meter: m2,", "meter: m9,")

    parts = parts_of(site_of(tmp_path))
    row = {"import_wh": 7_000, "export_wh": 9_000, "p_w": 50, "quality": "good", "age_ms": 0,
           "registers": [1, 2], "utc_us": parts.clock.utc_us()}  # fmt: skip
    rows = [{"meter": f"m{k}", "terminal": f"T{k}", **row} for k in (2, 3)]
    await parts.recorder.record("reading", meters=rows)
    await parts.journal.close()

    site = site_of(tmp_path, exchanged)
    parts = parts_of(site)
    async with page_of(site, parts, monkeypatch) as fetched:
        told = json.loads(await fetched("/state.json"))
        assert {p["device"] for p in told["points"]} == {"m3"}
        exports_wh = {t["meter"]: t["meter_export_wh"] for t in told["terminals"]}
        assert exports_wh == {"m1": None, "m9": None, "m3": 9_000, "m4": None}
        answered = {d["name"]: d["connected"] for d in told["devices"]}
        assert (answered["m9"], answered["m3"]) == (False, True)
        counters = re.findall(r'sopgw_meter_energy.*meter="(m\d)"', await fetched("/metrics"))
        assert set(counters) == {"m3"}
    await parts.journal.close()


async def test_settled_sums_are_since_the_ledger_began_however_little_a_start_remembers(
    tmp_path, monkeypatch
):
    from gateway.journal.snapshot import REMEMBERED_MAX

    monkeypatch.setitem(REMEMBERED_MAX, "delivery", 2)
    monkeypatch.setattr(web, "READ_WHOLE_MAX", 0)
    said = []
    monkeypatch.setattr(web, "note", said.append)
    site = site_of(tmp_path)

    async def settled(parts):
        beside = web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=True)
        async with beside(parts):
            root = said[-1].removeprefix("page at ").rstrip("/")
            async with (
                aiohttp.ClientSession(root) as session,
                session.get("/state.json") as response,
            ):
                return (await response.json())["settled"]

    parts = parts_of(site)
    trade = {"trade_id": "a", "status": "partial", "contracted_wh": 100, "planned_wh": 100,
             "delivered_wh": 99, "reasons": []}  # fmt: skip
    interval = {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"}
    for _ in range(REMEMBERED_MAX["delivery"] + 5):
        await parts.recorder.record(
            "delivery", sop=site.sops[0].sop.id, interval=interval, terminals=[], trades=[trade],
            loss_wh=0, unscheduled_wh=0,
        )  # fmt: skip
    told = await settled(parts)
    assert told == [{"outcome": "partial", "count": 7, "contracted_wh": 700, "delivered_wh": 693}]
    await parts.keeper.make()
    await parts.journal.close()
    again = parts_of(site)
    assert len(again.keeper.memory.entries()) == 2
    assert await settled(again) == told
    await again.journal.close()


async def test_a_port_in_use_costs_the_page_and_not_the_gateway(tmp_path, caplog):
    blocker = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    taken = blocker.sockets[0].getsockname()[1]
    site = site_of(tmp_path)
    parts = parts_of(site)
    beside = web.doors_beside(site, site.sops[0], page=("127.0.0.1", taken), simulated=True)
    entered = False
    async with beside(parts):
        entered = True
    assert entered
    assert "no page" in caplog.text
    await parts.journal.close()
    blocker.close()
    await blocker.wait_closed()


async def test_northbound_values_and_a_login_of_the_page_beside_one_gateway(tmp_path, monkeypatch):
    import aiomqtt

    from gateway.hmi import accounts

    monkeypatch.setattr(accounts, "MEMORY_KIB", 64)
    person = accounts.new_account(name="ann", role="viewer", password="correct horse")
    accounts.write(tmp_path / "accounts.json", {"ann": person})
    async with demo_bench.broker(tmp_path) as (broker, _):
        doors = (
            f"web: {{listen: '127.0.0.1:0', accounts: accounts.json, names: [page.example]}}\n"
            f"northbound: {{mqtt: {{broker: 'mqtt://127.0.0.1:{broker}', home_assistant: true}}}}\n"
        )
        site = site_of(tmp_path, lambda text: text.rstrip("\n") + "\n" + doors, broker=broker)
        parts = parts_of(site)
        said = []
        monkeypatch.setattr("gateway.cli.web.note", said.append)
        async with (
            aiomqtt.Client("127.0.0.1", broker) as client,
            web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=True)(parts),
        ):
            await client.subscribe("#", qos=1)
            wanted = {f"sopgw/v1/{site.id}/{site.sops[0].sop.id}/values", "homeassistant"}
            async with asyncio.timeout(60):
                async for message in client.messages:
                    topic = str(message.topic)
                    wanted -= {topic, topic.partition("/")[0]}
                    if not wanted:
                        break
            root = said[0].removeprefix("page at ").rstrip("/")
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(root, cookie_jar=jar) as session:
                async with session.get("/state.json") as response:
                    assert response.status == 401
                form = {"name": "ann", "password": "correct horse"}
                async with session.post(
                    "/en/login", data=form, headers={"Origin": "https://page.example"}
                ) as response:
                    assert response.status == 200
                async with session.get("/en/", headers={"Host": "Page.example"}) as response:
                    assert response.status == 200
                async with session.get("/state.json") as response:
                    assert response.status == 200
            login = [e for _, e in parts.journal.entries() if e["kind"] == "operator"]
            assert [(e["user"], e["verb"], e["arguments"]["event"]) for e in login] == [
                ("page:ann", "login", "entered")
            ]
        await parts.journal.close()


async def test_a_door_whose_files_are_wrong_stays_shut_and_the_gateway_goes_on(tmp_path, caplog):
    doors = (
        "web: {listen: '127.0.0.1:0', accounts: nowhere.json}\n"
        "northbound: {opcua: {listen: '127.0.0.1:0', certificate: c.der, key: {file: k}, trusted: t}}\n"
    )
    site = site_of(tmp_path, lambda text: text.rstrip("\n") + "\n" + doors)
    parts = parts_of(site)
    async with web.doors_beside(site, site.sops[0], page=("127.0.0.1", 0), simulated=True)(parts):
        assert "no page: " in caplog.text
        assert "nowhere.json" in caplog.text
        assert "no northbound door: " in caplog.text
    await parts.journal.close()


@pytest.mark.parametrize("broker", ["mqtt://b.example:70000", "mqtt://:1883"])
def test_a_door_that_cannot_be_made_leaves_the_other_open(tmp_path, caplog, broker):
    from gateway.cli.web import northbound_runs
    from gateway.config.site_doors import MqttValuesConfig, Northbound, OpcuaServerConfig

    key = tmp_path / "key"
    key.write_text("x")
    key.chmod(0o600)
    opcua = OpcuaServerConfig(
        host="127.0.0.1", port=0, certificate=tmp_path / "c", key_file=key, trusted=tmp_path
    )
    mqtt = MqttValuesConfig(
        broker=broker, username=None, password_file=None, ca_file=None, certificate=None,
        key_file=None, home_assistant=False, sparkplug=None,
    )  # fmt: skip
    assert len(northbound_runs(Northbound(opcua=opcua, mqtt=mqtt), lambda: None)) == 1
    assert caplog.text.count("no northbound door: ") == 1
