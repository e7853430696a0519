"""No command writes to a device unless it was told to: every command, against a site that counts.

The table says how each command is called without consent; a command that can move power must stand
in it. What the service may write while it runs is told apart by the ledger: no instruction.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from fakes.cabinet import Cabinet
from fakes.served import entries, serving, started, status, until

from gateway.cli.man import walk
from gateway.cli.output import SopCommand
from gateway.cli.root import cli
from gateway.runtime.latch import leave

CONTEXT = cli.make_context("sopgw", [], resilient_parsing=True)
LEAVES = {
    " ".join(context.command_path.split()[1:]): found
    for context, found in walk(cli, CONTEXT)
    if isinstance(found, SopCommand)
}
POWER = {  # can move power: arguments without consent, and the exit codes that may come of it
    "apply": (("p-NONE",), {5}),
    "arm": ((), {4}),
    "mode set": (("on",), {4}),
    "limits set": (("T2", "--p-max", "1kW", "--why", "x"), {4}),
    "limits confirm": (("l-0000",), {4}),
    "point set": (("station", "wdg.timeout=5s"), {6}),
    "check wiring": (("m2", "--inject", "10kW", "--before", "1s"), {6}),
    "test estop": (("station",), {6}),
    "test hold": (("T2", "--power", "1kW"), {6}),
    "test interlock": (("local",), {6}),
    "test step": (("T2", "--to", "25kW"), {6}),
    "test sweep": (("T2",), {6}),
    "test watchdog": (("station",), {6}),
    "sat run": ((), {1, 2, 5, 6, 9}),
    "sat step": (("1",), {1, 2, 5, 6, 9}),
    "trade submit": (("NOFILE", "--broker", "mqtt://127.0.0.1:1"), {2}),
}
READS = {  # reaches a device and only reads
    "doctor": ("devices.link",),
    "device identify": ("station",),
    "device stats": ("station", "--for", "1s"),
    "point get": ("station",),
    "point decode": ("m1", "holding/3027", "--expect", "230V±15%"),
    "point map": ("m1", "--from", "2999", "--to", "3005"),
    "point watch": ("station", "wdg.timeout", "--count", "1"),
    "check network": ("--count", "3"),
    "check clock": ("--for", "1s"),
    "check scale": ("station",),
    "check signs": ("m2", "--for", "2s"),
    "test signals": ("station",),
    "profile match": ("127.0.0.1:{port}", "--unit", "100"),
    "scan modbus-tcp": ("127.0.0.1", "--port", "{port}", "--units", "100"),
}
MEANT_TO = {  # writing is what they are for, or they bring simulated devices of their own
    "stop": "stopping is always allowed", "run": "the service itself",
    "demo": "its own simulated site", "trade rehearse": "its own simulated site",
}  # fmt: skip


@pytest.fixture(scope="module")
def cabinet(tmp_path_factory):
    found = Cabinet(tmp_path_factory.mktemp("elm"), factor=20)
    yield found
    found.close()


@pytest.fixture
def site(cabinet, monkeypatch):
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, cabinet.env[name])
    return cabinet


def writes(site):
    return site.say(do="look")["writes"]


def test_every_command_that_can_move_power_stands_in_the_table():
    hardware = {name for name, found in LEAVES.items() if found.impact == "hw"}
    assert hardware - POWER.keys() - MEANT_TO.keys() == set()
    assert (POWER.keys() | READS.keys() | MEANT_TO.keys()) - LEAVES.keys() == set()


@pytest.mark.parametrize("name", POWER)
def test_without_consent_nothing_is_written(name, site, sopgw):
    arguments, codes = POWER[name]
    before = writes(site)
    answer = sopgw(*name.split(), *arguments, "--json")
    assert answer.exit_code in codes, answer.out
    assert answer.json["errors"], "it says what it did not do, and how to do it"
    assert writes(site) == before


@pytest.mark.parametrize("name", READS)
def test_what_reads_writes_nothing(name, site, sopgw):
    before = writes(site)
    url = site.folder.joinpath("site.yaml").read_text().split("modbus+tcp://127.0.0.1:")[1]
    port = url.split('"')[0]
    arguments = [a.format(port=port) for a in READS[name]]
    answer = sopgw(*name.split(), *arguments, "--json")
    assert answer.exit_code in (0, 1, 9), answer.out
    assert writes(site) == before


def test_every_other_command_with_a_site_writes_nothing(site, sopgw):
    """Called with nothing but the site: whatever comes of it, no device was written."""
    before = writes(site)
    rest = LEAVES.keys() - POWER.keys() - READS.keys() - MEANT_TO.keys()
    called = 0
    for name in sorted(rest):
        if any(p.name == "config_path" for p in LEAVES[name].params):
            sopgw(*name.split(), "--json")
            called += 1
    assert called > 15
    assert writes(site) == before


# With the service running


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("oak"), factor=5) as found:
        yield found


@pytest.fixture
def service(served, monkeypatch):
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, served.env[name])
    return served


@pytest.mark.parametrize("name", [n for n in POWER if n not in ("sat run", "sat step")])
def test_without_consent_the_service_is_ordered_nothing(name, service, sopgw):
    until(lambda: status(sopgw)["terminals"])
    before = entries(service, "operator")
    arguments, _ = POWER[name]
    answer = sopgw(*name.split(), *arguments, "--json")
    assert answer.exit_code in (2, 5, 6, 10), answer.out
    now = entries(service, "operator")[len(before) :]
    assert {e["verb"] for e in now} <= {"refused", "limits.propose"}
    assert [e for e in entries(service, "intent") if e.get("command") is None] == []
    assert status(sopgw)["control"]["holder"] == "trades"


def test_the_service_lends_control_for_a_test_and_has_it_back(service, sopgw):
    until(lambda: "watchdog" not in str(status(sopgw)["reasons"]))
    made = sopgw("test", "step", "T2", "--to", "10kW", "--hold", "3s", "--json")
    plan = made.json["data"]["plan"]
    assert sopgw("apply", plan["id"], "--json").exit_code in (0, 1)
    verbs = [e["verb"] for e in entries(service, "operator")]
    assert verbs.index("borrow") < verbs.index("test") < verbs.index("return")
    kinds = [e["kind"] for e in entries(service, "intent", "outcome", "operator")]
    assert kinds.count("intent") >= 2, "there and back, each with its intent"
    assert not any(status(sopgw)["terminals"][k]["p_w_set"] for k in range(4))
    assert sopgw("apply", plan["id"], "--json").exit_code == 5, "a plan is applied once"
    held = sopgw("test", "hold", "T2", "--power", "10kW", "--for", "1s", "--yes", "--json")
    assert held.exit_code == 0, held.out
    assert [e["verb"] for e in entries(service, "operator")][-3:] == ["borrow", "test", "return"]


def test_a_setpoint_by_hand_ends_by_itself(service, sopgw):
    until(lambda: [r.split(":")[0] for r in status(sopgw)["reasons"]] == ["mode_blocked"])
    before = len(entries(service, "intent"))
    answer = sopgw("point", "set", "T2", "p=10kW", "--for", "20s", "--yes", "--json")
    assert answer.exit_code == 0, answer.out
    until(lambda: status(sopgw)["control"]["holder"] == "trades")
    until(lambda: not status(sopgw)["terminals"][1]["p_w_set"])
    intents = [e for e in entries(service, "intent")[before:] if e.get("command") is None]
    powers = [next(s["p_w"] for s in e["setpoints"] if s["terminal"] == "T2") for e in intents]
    assert (powers[0], powers[-1]) == (10_000, 0), "there, and back without being told"


def test_a_single_point_is_not_written_beside_the_service(service, sopgw):
    answer = sopgw("point", "set", "station", "wdg.timeout=5s", "--yes", "--json")
    assert answer.exit_code == 10
    assert answer.json["errors"][0]["code"] == "H010"


def test_killed_in_mid_step_the_service_stops_the_station(service, sopgw):
    """The one who borrowed control dies: the service does not wait for the watchdog."""
    until(lambda: not status(sopgw)["terminals"][1]["p_w"] > 500)
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "test", "step", "T2", "--to", "20kW", "--hold", "60s",
         "--yes"],
        env=service.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: service.say(do="look")["p_w"][1] > 15_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_s = service.say(do="look")["t_s"]
    until(lambda: abs(service.say(do="look")["p_w"][1]) < 1000)
    took_s = service.say(do="look")["t_s"] - killed_s
    looked_s = 10  # of simulated time, a second or two of a busy host's: looking takes time too
    assert took_s < 5 + 20 / 50 + looked_s, "watchdog and ramp are the longest it may take"
    until(lambda: "control.lost" in [e["verb"] for e in entries(service, "operator")])
    assert status(sopgw)["control"]["holder"] == "trades"


def test_stop_works_with_the_service_and_with_the_service_dead(service, sopgw):
    answer = sopgw("stop", "--json")
    assert (answer.exit_code, answer.json["data"]["way"]) == (0, "gateway")
    assert status(sopgw)["armed"] is False
    assert sopgw("arm", "--confirm", "SOP-1", "--json").exit_code == 0
    os.kill(service.process_of_gateway.pid, signal.SIGKILL)
    service.process_of_gateway.wait()
    assert (service.folder / "sopgw.sock").exists(), "a killed service leaves its socket"
    answer = sopgw("stop", "--json")
    assert (answer.exit_code, answer.json["data"]["way"]) == (0, "station directly")
    assert json.loads(answer.out)["ok"]
    assert sopgw("status", "--json").exit_code == 4


def test_a_stop_told_to_the_station_lasts_until_the_service_that_starts_is_armed(service, sopgw):
    """After the test above: the service is dead, was armed when it died, and was told nothing."""
    assert sopgw("stop", "--json").json["data"]["way"] == "station directly"
    before = len(entries(service, "operator"))
    with started(service):
        until(lambda: len(entries(service, "operator")) > before)
        (stopped,) = entries(service, "operator")[before:]
        assert (stopped["verb"], stopped["user"]) == ("stop", f"uid:{os.getuid()}")
        kinds = [e["kind"] for e in entries(service, "boot", "operator", "intent")]
        last_boot = len(kinds) - 1 - kinds[::-1].index("boot")
        assert kinds[last_boot + 1] == "operator", "before anything is ordered of the station"
        until(lambda: not (service.folder / "stopped.json").exists())
        until((service.folder / "sopgw.sock").exists)
        assert status(sopgw)["armed"] is False
        assert sopgw("arm", "--confirm", "SOP-1", "--json").exit_code == 0
        assert status(sopgw)["armed"] is True


def test_a_service_that_runs_takes_a_stop_that_was_left_for_it(service, sopgw):
    """Whoever found its socket silent has told the station; the service hears of it too."""
    with started(service):
        until((service.folder / "sopgw.sock").exists)
        until(lambda: status(sopgw)["terminals"])
        assert status(sopgw)["armed"] is True
        leave(service.folder / "stopped.json", user="uid:7")
        until(lambda: status(sopgw)["armed"] is False)
        assert entries(service, "operator")[-1]["user"] == "uid:7"
