"""Injections: each ends by itself and alone, `clear` ends all, a refused one changes nothing."""

import asyncio
import json

import pytest

from firmware_sim.control import ControlServer, DeviceControl


def wire(bench, server="station"):
    return bench.device.servers(server)[0].wire


def test_a_short_wire_fault_leaves_the_others_in_force(bench):
    bench.inject("link_cut", target="station", style="silent", for_s=300)
    bench.inject("delay", target="all", delay_s=0.1, for_s=5)
    bench.wait(7)
    assert wire(bench).cut
    assert wire(bench).silent
    assert wire(bench).delay_s == wire(bench, "m1").delay_s == 0
    bench.wait(300)
    assert not wire(bench).cut


def test_the_longer_of_two_alike_comes_back(bench):
    bench.inject("exception", target="station", for_s=300)
    bench.inject("exception", target="station", code=4, for_s=5)
    bench.inject("link_cut", target="m1", style="silent", for_s=300)
    bench.inject("link_cut", target="m1", for_s=5)
    bench.inject("derate", ratio=0.5, for_s=60)
    bench.inject("derate", ratio=0.3, terminal=2, for_s=10)
    assert wire(bench).exception_code == 4
    assert not wire(bench, "m1").silent
    bench.wait(12, heartbeat=False)
    assert wire(bench).exception_code == 6
    assert wire(bench, "m1").cut
    assert wire(bench, "m1").silent
    assert [c.derate_ratio for c in bench.device.sop.converters] == [0.5] * 4
    bench.wait(60, heartbeat=False)
    assert [c.derate_ratio for c in bench.device.sop.converters] == [1.0] * 4


LASTING = [
    ("stuck", {"terminal": 2}),
    ("clip", {"terminal": 3, "limit_w": 10}),
    ("feeder", {"terminal": 2, "v_v": 300, "load_w": 5}),
    ("breaker_stuck", {"terminal": 2}),
    ("derate", {"ratio": 0.3}),
    ("wiring", {"target": "m2", "arrangement": 1}),
    ("local", {}),
    ("estop", {}),
    ("watchdog_disabled", {}),
    ("door", {}),
    ("fan", {}),
    ("bad_quality", {}),
    ("opcua_bomb", {"size": 9}),
    ("clock_step", {"step_s": 3}),
    ("link_cut", {}),
    ("freeze", {}),
    ("delay", {}),
    ("exception", {}),
    ("rtu_noise", {}),
    ("rtu_echo", {}),
]


def picture(bench):
    """Everything a fault that lasts may change."""
    device = bench.device
    names = ("stuck", "clip_w", "feeder_v_v", "f_hz", "island_load_w", "feeder_held")
    return (
        [[getattr(c, n) for n in (*names, "derate_ratio")] for c in device.sop.converters],
        sorted(device.sop.breaker_stuck),
        [m.wiring for m in device.meters],
        (device.firmware.local, device.firmware.watchdog_disabled, device.sop.door_open),
        (device.sop.fan_failed, device.bad_quality, device.bomb_size, device.sop.station_state()),
        device.clock.utc_us() - device.clock.elapsed_us(),
        [[getattr(s.wire, n) for n in s.wire.__slots__] for s in device.servers()],
    )


@pytest.mark.parametrize(("fault", "order"), LASTING, ids=[f for f, _ in LASTING])
@pytest.mark.parametrize("how", ["for_s", "clear"])
def test_what_lasts_ends_by_itself_and_by_clear(make_bench, fault, order, how):
    bench = make_bench(state="stopped")
    before = picture(bench)
    bench.inject(fault, **order, **({"for_s": 5} if how == "for_s" else {}))
    assert picture(bench) != before
    if how == "for_s":
        bench.wait(6, heartbeat=False)
    else:
        bench.inject("clear")
    assert picture(bench) == before


def test_after_clear_nothing_old_ends_something_new(bench):
    bench.inject("stuck", terminal=2, for_s=5)
    bench.inject("clear")
    bench.inject("stuck", terminal=2)
    bench.wait(10)
    assert bench.device.sop.converters[1].stuck


@pytest.mark.parametrize(
    "line",
    [
        b'{"inject": "stuck", "terminal": 2, "for_s": "30s"}',
        b'{"inject": "stuck", "terminal": 2, "for_s": 1e400}',
        b'{"inject": "stuck", "terminal": 0}',
        b'{"inject": "clip", "terminal": -1, "limit_w": 5}',
        b'{"inject": "trip", "terminal": 9}',
        b'{"inject": "trip", "terminal": 1e400}',
        b'{"inject": "feeder", "terminal": 2, "v_v": 0, "f_hz": "fifty"}',
        b'{"inject": "wiring", "target": "m1", "arrangement": 48}',
        b'{"inject": "link_cut", "style": "quiet"}',
        b'{"inject": "exception", "code": 0}',
        b'{"inject": "link_cut", "face": "serial"}',
    ],
)
def test_what_is_refused_has_not_happened(bench, line):
    before = picture(bench)
    carry_out = DeviceControl(bench.device, bench.injector).carry_out
    answer = ControlServer(carry_out, asyncio.Event()).answer(line)
    assert not answer["ok"]
    assert picture(bench) == before
    assert bench.states == ["STANDBY"] * 4


@pytest.mark.parametrize("fault", ["link_cut", "delay", "exception"])
def test_a_fault_that_leaves_a_face_out_says_so(bench, fault):
    bench.device.beyond.append("OPC UA")
    with pytest.raises(ValueError, match="does not reach OPC UA"):
        bench.inject(fault, target="station")
    before = picture(bench)
    bench.inject(fault, target="m1")
    bench.inject(fault, target="station", face="modbus")
    assert picture(bench) != before


async def test_the_program_ends_although_a_tester_is_connected(tmp_path):
    quit_now = asyncio.Event()
    control = ControlServer(lambda _: {"ok": True}, quit_now)
    await control.start(tmp_path / "ctl")
    reader, writer = await asyncio.open_unix_connection(tmp_path / "ctl")
    writer.write(b'{"quit": true}\n')
    assert json.loads(await reader.readline())["ok"]
    await quit_now.wait()
    async with asyncio.timeout(5):
        await control.close()
        assert await reader.read() == b""  # the tester is told, on every version of Python
    writer.close()
    await writer.wait_closed()
