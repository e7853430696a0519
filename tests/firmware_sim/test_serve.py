"""The device as a process: announcement, SELECT and OPERATE on the wire, meters, clean end."""

import itertools
import signal
import struct
import time

import psutil
import pytest

OWNER = 7


def crc16(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def staged(powers, master=0):
    block = b""
    for index, p_w in enumerate(powers):
        mode = 1 if index == master else 0
        block += struct.pack(">iiHHHiHHH", p_w, 0, mode, 200, 0, 0, 0, 0, 0)
    return block


def i32(words, at):
    return struct.unpack(">i", struct.pack(">HH", *words[at : at + 2]))[0]


def command(wire, seq, code, block, *, heartbeat=1, instr=0x12345678, ttl=900, owner=OWNER):
    crc = crc16(block)
    words = [seq, code, 0, crc, heartbeat, 50, 1, 200, instr >> 16, instr & 0xFFFF, ttl, owner]
    assert wire.write(0, words) == 0
    station = wire.read(4, 1000, 28)
    assert station[6] == seq
    return station[7]


def select_and_operate(wire, powers, seq=1, **kw):
    block = staged(powers)
    assert wire.write(20, struct.unpack(f">{len(block) // 2}H", block)) == 0
    assert command(wire, seq, 7, block, **kw) == 1
    assert wire.read(3, 20, 12 * len(powers)) == list(struct.unpack(f">{len(block) // 2}H", block))
    return command(wire, seq + 1, 8, block, **kw)


def until(condition, timeout_s=10):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "not reached in time"
        time.sleep(0.01)


def test_a_trade_is_carried_out_and_metered(start):
    device = start("--speed", "60", "--bias", "0%")
    wire = device.wire()
    assert wire.read(4, 1000, 1) == [5]
    assert select_and_operate(wire, [0, 50_000, -30_000, 10_000]) == 2
    until(lambda: device.truth()["t_us"] > 10e6)
    terminals = wire.read(4, 1100, 120)
    assert abs(i32(terminals, 41) - 50_000) < 1000
    assert i32(terminals, 52) == i32(terminals, 54) == 50_000
    assert i32(terminals, 1) < -30_000  # the master: minus the others and all losses
    meter = device.wire(device.listening["meters"][1], unit=1)
    kilowatts = struct.unpack(">f", struct.pack(">HH", *meter.read(3, 0x0BF3, 2)))[0]
    assert abs(kilowatts + 50) < 1  # import is positive at the meter, the converter injects
    before = meter.read(3, 0x0C83, 8)
    until(lambda: device.truth()["t_us"] > 20e6)
    after = meter.read(3, 0x0C83, 8)
    assert after[:4] == before[:4]  # import stands still
    assert after[6:8] != before[6:8]  # export counts


def test_without_heartbeat_the_power_goes_to_zero_and_stays_there(start):
    device = start("--speed", "60")
    wire = device.wire()
    assert select_and_operate(wire, [0, 100_000, 0, 0]) == 2
    until(lambda: device.truth()["state"] == "STANDBY")
    station = wire.read(4, 1000, 28)
    assert station[1] >> 9 & 1
    assert wire.write(4, [99]) == 0  # the sign of life alone brings nothing back
    for _ in range(3):
        assert abs(device.truth()["terminals"][1]["p_w"]) <= 0.005 * 250_000
        assert wire.write(4, [100 + _]) == 0
    assert device.truth()["failsafe"]
    assert select_and_operate(wire, [0, 100_000, 0, 0], seq=3) == 2
    assert device.truth()["state"] == "RUN"


def test_link_cut_resets_refuses_and_heals(start):
    device = start("--speed", "20")
    wire = device.wire()
    assert wire.read(4, 1000, 1) == [5]
    assert device.ask({"inject": "link_cut", "for_s": 4, "target": "station"})["ok"]
    until(lambda: broken(wire))
    until(lambda: not broken(device.wire()))


def broken(wire):
    try:
        wire.read(4, 1000, 1)
    except OSError:
        return True
    return False


def test_ends_cleanly_on_signal_and_on_closed_stdin(start):
    device = start()
    device.process.send_signal(signal.SIGTERM)
    assert device.process.wait(5) == 0
    other = start("--with-stdin")
    other.process.stdin.close()
    assert other.process.wait(5) == 0


def test_time_base_file_is_followed(start, tmp_path):
    file = tmp_path / "base.json"
    file.write_text(
        f'{{"epoch_ns": {time.monotonic_ns()}, "utc_epoch_us": 1000000000, "factor": 60}}'
    )
    device = start("--timebase", str(file))
    utc_us = device.truth()["utc_us"]
    assert 1_000_000_000 < utc_us < 1_000_000_000 + 60e6 * 30
    words = device.wire().read(4, 1024, 4)
    on_wire = int.from_bytes(struct.pack(">4H", *words), "big")
    assert utc_us <= on_wire < utc_us + 60e6 * 30


def test_every_socket_stays_on_loopback(start, tmp_path):
    device = start("--rtu-tcp", "0", "--rtu", str(tmp_path / "tty"))
    sockets = psutil.Process(device.process.pid).net_connections(kind="inet")
    listening = [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN]
    assert len(listening) == 6
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_the_trace_follows_simulated_time(start, tmp_path):
    trace = tmp_path / "true.csv"
    device = start("--speed", "60", "--trace", str(trace))
    until(lambda: device.truth()["t_us"] > 12e6)
    device.process.terminate()
    assert device.process.wait(5) == 0
    rows = [line.split(",") for line in trace.read_text().splitlines()]
    assert rows[0][:5] == ["t_s", "state", "master", "v_dc_v", "loss_w"]
    times = [float(row[0]) for row in rows[1:]]
    assert len(times) >= 12
    assert [b - a for a, b in itertools.pairwise(times)] == pytest.approx(
        [1.0] * (len(times) - 1), abs=0.11
    )


def test_a_trace_that_a_full_disk_does_not_take_ends_and_the_device_goes_on(start):
    device = start("--speed", "600", "--trace", "/dev/full")
    until(lambda: device.truth()["t_us"] > 300e6)  # much more than a buffer of rows
    device.process.terminate()
    assert device.process.wait(5) == 0


def test_the_control_socket_refuses_nonsense(start):
    device = start()
    assert not device.ask({"inject": "lightning"})["ok"]
    assert not device.ask({"query": "weather"})["ok"]
    assert not device.ask({"inject": "trip"})["ok"]  # no terminal named
    assert not device.ask([1])["ok"]
    assert device.ask({"inject": "trip", "terminal": 3})["ok"]
    assert device.truth()["terminals"][2]["state"] == "FAULT"
    assert device.ask({"quit": True})["ok"]
    assert device.process.wait(5) == 0


def test_faults_inside_the_device(start):
    device = start("--speed", "20", "--bias", "0%")
    wire = device.wire()
    assert select_and_operate(wire, [0, 50_000, 0, 0]) == 2
    until(lambda: device.truth()["terminals"][1]["p_w"] > 45_000)
    assert device.ask({"inject": "stuck", "terminal": 2})["ok"]
    assert select_and_operate(wire, [0, 10_000, 0, 0], seq=3, heartbeat=2) == 2
    began = device.truth()["t_us"]
    until(lambda: device.truth()["t_us"] > began + 5e6)
    assert device.truth()["terminals"][1]["p_w"] > 45_000
    assert device.ask({"inject": "reboot"})["ok"]
    truth = device.truth()
    assert truth["state"] in ("INIT", "STOPPED")
    assert truth["lease_owner"] == 0
    fresh = device.wire()
    until(lambda: fresh.read(4, 1000, 1) == [2])
    assert fresh.read(3, 20, 12) == [0] * 12  # nothing of the old setpoint is left
    assert device.ask({"inject": "meter_exchange", "target": "m2", "serial": 99})["ok"]
    meter = device.wire(device.listening["meters"][1], unit=1)
    assert meter.read(3, 0x0081, 2) == [0, 99]
    assert device.ask({"inject": "freeze", "target": "station"})["ok"]
    first = fresh.read(4, 1000, 28)
    later = device.truth()["t_us"] + 3e6
    until(lambda: device.truth()["t_us"] > later)
    assert fresh.read(4, 1000, 28) == first
    assert device.ask({"inject": "exception", "code": 6})["ok"]
    assert fresh.read(4, 1000, 28) == 6
    assert device.ask({"inject": "clear"})["ok"]
    assert fresh.read(4, 1000, 28) != first
    assert device.ask({"inject": "master_trip"})["ok"]


def test_bad_devices_that_remember_and_that_clip(start):
    device = start("--speed", "20", "--bias", "0%")
    wire = device.wire()
    assert device.ask({"inject": "clip", "terminal": 2, "limit_w": 20_000})["ok"]
    assert select_and_operate(wire, [0, 50_000, 0, 0]) == 2
    words = wire.read(4, 1140, 30)
    assert i32(words, 12) == 20_000  # the echo of the active value is the only witness
    assert i32(words, 14) == 50_000
    assert words[29] == 0
    assert device.ask({"inject": "clear"})["ok"]
    assert select_and_operate(wire, [0, 50_000, 0, 0], seq=3, heartbeat=2) == 2
    assert i32(wire.read(4, 1140, 30), 12) == 50_000
    assert device.ask({"inject": "reboot", "remembering": True})["ok"]
    truth = device.truth()
    assert truth["state"] == "RUN"
    assert truth["terminals"][1]["p_set_w"] == 50_000
    assert truth["active_instr_id"] == 0


@pytest.mark.parametrize(("speed", "stretch_s"), [("2", 4), ("60", 120), ("120", 240)])
def test_energy_over_simulated_time_is_the_same_at_every_speed(start, speed, stretch_s):
    device = start("--speed", speed, "--bias", "0%")
    wire = device.wire()
    assert select_and_operate(wire, [0, 100_000, -60_000, 0], instr=9) == 2
    beat = 100

    def alive(until_us):
        nonlocal beat
        while (truth := device.truth())["t_us"] < until_us:
            beat += 1
            assert wire.write(4, [beat & 0xFFFF]) == 0
            time.sleep(0.01)
        return truth

    first = alive(5e6)
    last = alive(first["t_us"] + stretch_s * 1e6)
    hours = (last["utc_us"] - first["utc_us"]) / 3.6e9
    for meter, power in ((1, 100_000), (2, -60_000)):
        a, b = first["meters"][meter], last["meters"][meter]
        net = (b["export_wh"] - a["export_wh"]) - (b["import_wh"] - a["import_wh"])
        assert net / hours == pytest.approx(power, rel=0.005)
    assert last["state"] == "RUN"
