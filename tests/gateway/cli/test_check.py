"""Commands on real devices: nothing is written without consent, plans, refusals, exit codes."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.commissioning.session import LIFE_S
from ledger.log import reader

SPEC = importlib.util.spec_from_file_location(
    "cabinet", Path(__file__).resolve().parents[2] / "fakes" / "cabinet.py"
)
cabinet_module = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cabinet_module)

HARDWARE = [
    ("check", "wiring", "m2", "--inject", "10kW", "--before", "1s"),
    ("test", "step", "T2", "--to", "25kW"),
    ("test", "step", "T2", "--to", "-40kW", "--from", "10kW", "--return"),
    ("test", "watchdog", "station"),
    ("test", "watchdog", "station", "--how", "drop-link"),
    ("test", "estop", "station"),
    ("test", "sweep", "T3"),
    ("test", "interlock", "local"),
    ("test", "hold", "T2", "--power", "10kW"),
]
READ_ONLY = [
    ("check", "network"),
    ("check", "clock", "--for", "1s"),
    ("check", "scale", "m1"),
    ("check", "scale", "station"),
    ("check", "signs", "m2", "--for", "2s"),
    ("test", "signals", "station"),
    ("doctor", "devices"),
    ("plan", "ls"),
]


@pytest.fixture(scope="module")
def cabinet(tmp_path_factory):
    found = cabinet_module.Cabinet(tmp_path_factory.mktemp("elm"), factor=20)
    yield found
    found.close()


@pytest.fixture
def site(cabinet, monkeypatch):
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, cabinet.env[name])
    return cabinet


def writes(site):
    return site.say(do="look")["writes"]


@pytest.mark.parametrize("arguments", HARDWARE, ids=" ".join)
def test_power_needs_consent_and_nothing_is_written_without(arguments, site, sopgw):
    before = writes(site)
    answer = sopgw(*arguments, "--json")
    assert answer.exit_code == 6
    plan = answer.json["data"]["plan"]
    assert plan["lines"]
    assert plan["frames"][0].startswith("FC16 holding/20 ×48 = ")
    assert f"sopgw apply {plan['id']}" in answer.json["errors"][0]["help"]
    assert writes(site) == before
    shown = sopgw("plan", "show", plan["id"], "--json")
    assert shown.json["data"]["plan"] == plan
    assert 100 < shown.json["data"]["left_s"] <= 120


@pytest.mark.parametrize("arguments", READ_ONLY, ids=" ".join)
def test_what_reads_only_writes_nothing(arguments, site, sopgw):
    before = writes(site)
    answer = sopgw(*arguments, "--json")
    assert answer.exit_code in (0, 9), answer.out
    assert answer.json["schema"].startswith("sopgw/v1/")
    assert writes(site) == before


@pytest.mark.parametrize("arguments", HARDWARE, ids=" ".join)
def test_a_read_only_environment_refuses_even_with_consent(arguments, site, sopgw, monkeypatch):
    monkeypatch.setenv("SOPGW_READONLY", "1")
    before = writes(site)
    answer = sopgw(*arguments, "--confirm", "SOP-1", "--json")
    assert answer.exit_code == 5
    assert answer.json["errors"][0]["code"] == "H001"
    assert writes(site) == before


@pytest.mark.parametrize("consent", [("--yes",), ("--confirm", "SOP-2"), ()], ids=str)
def test_a_fifth_of_the_rating_needs_the_name_of_the_sop(consent, site, sopgw):
    before = writes(site)
    answer = sopgw("test", "step", "T2", "--to", "100kW", *consent, "--json")
    assert answer.exit_code == 6
    assert writes(site) == before


def test_outside_the_guard_no_plan_is_made(site, sopgw):
    answer = sopgw("test", "step", "T2", "--to", "240kW", "--confirm", "SOP-1", "--json")
    assert answer.exit_code == 5
    assert answer.json["errors"][0]["code"] == "H004"


def test_a_sat_run_without_consent_moves_nothing(site, sopgw):
    sopgw("sat", "new", "--plan", "sop-lv", "--json")
    before = writes(site)
    answer = sopgw("sat", "step", "4", "--json")
    assert answer.exit_code == 9
    assert writes(site) == before
    status = sopgw("sat", "status", "--json").json["data"]
    assert {c["status"] for c in status["checks"] if c["id"].startswith("4.")} == {"undecided"}


def made(sopgw):
    return sopgw("test", "step", "T2", "--to", "10kW", "--hold", "3s", "--json").json["data"][
        "plan"
    ]


def test_a_plan_is_applied_once_and_comes_back_to_zero(site, sopgw):
    plan = made(sopgw)
    before = writes(site)
    answer = sopgw("apply", plan["id"], "--json")
    assert answer.exit_code in (0, 9), answer.out
    assert answer.json["schema"] == "sopgw/v1/test.step"
    assert answer.json["ledger"]["entry"] is not None
    assert writes(site) > before
    look = site.say(do="look")
    assert all(abs(p) < 2500 for p in look["p_w"][1:]), "the master carries the losses"
    again = sopgw("apply", plan["id"], "--json")
    assert again.exit_code == 5
    assert "applied already" in again.json["errors"][0]["message"]


def test_a_stale_plan_is_refused_with_what_changed(site, sopgw):
    plan = made(sopgw)
    site.say(do="panel", what="local")
    try:
        before = writes(site)
        answer = sopgw("apply", plan["id"], "--json")
        assert answer.exit_code == 5
        assert "local changed False → True" in answer.json["errors"][0]["message"]
        assert writes(site) == before
    finally:
        site.say(do="panel", what="remote")


def test_a_plan_for_a_changed_site_file_is_refused(site, sopgw):
    plan = made(sopgw)
    path = Path(os.environ["SOPGW_CONFIG"])
    text = path.read_text()
    path.write_text(
        text.replace("Elm Street", "Oak Road").replace("-230 kW, 230 kW", "-220 kW, 220 kW")
    )
    try:
        answer = sopgw("apply", plan["id"], "--json")
        assert answer.exit_code == 5
        assert "the site file was changed" in answer.json["errors"][0]["message"]
    finally:
        path.write_text(text)


def test_a_cancelled_plan_is_gone(site, sopgw):
    plan = made(sopgw)
    assert sopgw("plan", "cancel", plan["id"], "--json").exit_code == 0
    assert sopgw("apply", plan["id"], "--json").exit_code == 5
    assert sopgw("apply", "p-ZZZZ", "--json").exit_code == 5


def test_a_station_in_local_refuses_with_its_addcause(site, sopgw):
    site.say(do="panel", what="local")
    try:
        answer = sopgw("test", "step", "T2", "--to", "10kW", "--yes", "--json")
    finally:
        site.say(do="panel", what="remote")
    assert answer.exit_code == 5
    assert answer.json["data"]["cause"] == "blocked-by-switching-hierarchy"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("check", "scale", "m9"), 2),
        (("check", "wiring", "station", "--yes"), 2),
        (("check", "signs", "station"), 2),
        (("test", "step", "T1", "--to", "10kW", "--yes"), 2),
        (("test", "step", "T2", "--to", "25", "--yes"), 2),
        (("test", "step", "T2", "--to", "0kW", "--yes"), 2),
        (("test", "signals", "station", "--only", "nonsense"), 2),
        (("check", "network", "--sop", "SOP-9"), 2),
        (("check", "scale", "m1", "--ref", "v1=231.2"), 2),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, tuple) else str(v),
)
def test_wrong_names_and_bare_numbers_are_usage_errors(arguments, code, site, sopgw):
    answer = sopgw(*arguments, "--json")
    assert answer.exit_code == code
    assert answer.json["errors"][0]["message"]


def test_a_mute_device_is_unreachable_or_a_finding(site, sopgw, tmp_path):
    text = Path(os.environ["SOPGW_CONFIG"]).read_text()
    quiet = tmp_path / "quiet.yaml"
    port = next(p for p in range(1, 1024) if p not in (22, 53, 80, 111))
    quiet.write_text(
        "\n".join(
            re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", line) if "  m3:" in line else line
            for line in text.splitlines()
        )
    )
    answer = sopgw("check", "scale", "m3", "-c", quiet, "--json")
    assert answer.exit_code == 4
    answer = sopgw("check", "network", "--count", "1", "-c", quiet, "--json")
    assert answer.exit_code == 1
    assert [f["where"] for f in answer.json["data"]["findings"]] == ["m3"]


def test_a_reference_that_disagrees_is_a_fault_with_its_mend(site, sopgw):
    answer = sopgw("check", "scale", "m1", "--ref", "v1=23.1V±0.5V")
    assert answer.exit_code == 1
    assert "ten times too large" in answer.out
    assert "sopgw point decode m1" in answer.out


def holding(cabinet):
    """A process that holds 25 kW at T2 for an hour, once the power is there."""
    held = subprocess.Popen(
        [sys.executable, "-m", "gateway", "test", "step", "T2", "--to", "25kW", "--hold", "1h", "--yes"],
        env=cabinet.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while cabinet.say(do="look")["p_w"][1] < 24_000:
        assert held.poll() is None
        time.sleep(0.05)
    return held


def test_killed_in_mid_step_the_station_goes_to_zero_by_itself(tmp_path):
    cabinet = cabinet_module.Cabinet(tmp_path, factor=5)
    try:
        held = holding(cabinet)
        held.send_signal(signal.SIGKILL)
        held.communicate()
        began = cabinet.say(do="look")["t_s"]
        while (look := cabinet.say(do="look"))["p_w"][1] > 2_500:
            assert look["t_s"] - began < 60
            time.sleep(0.02)
        # watchdog 5 s, a heartbeat's period, 0.5 s of ramp; and a second of a stalled host
        assert look["t_s"] - began < 5 + 1 + 0.5 + 5
        assert LIFE_S >= 5
    finally:
        cabinet.close()


def test_the_ledger_holds_an_intent_before_each_write(site, sopgw):
    answer = sopgw("test", "step", "T3", "--to", "10kW", "--hold", "2s", "--yes", "--json")
    first = answer.json["ledger"]["entry"]
    folder = Path(os.environ["SOPGW_CONFIG"]).parent / "ledger"
    kinds = [json.loads(leaf)["kind"] for _index, leaf in reader.entries(folder, first - 1)]
    assert kinds[:3] == ["operator", "intent", "outcome"]


def test_interrupted_in_mid_step_it_goes_back_to_zero_and_says_so(tmp_path):
    cabinet = cabinet_module.Cabinet(tmp_path, factor=5)
    try:
        held = holding(cabinet)
        held.send_signal(signal.SIGINT)
        _out, err = held.communicate(timeout=60)
        assert held.returncode == 130
        assert "interrupted" in err
        assert abs(cabinet.say(do="look")["p_w"][1]) < 2_500, "back before the program ended"
    finally:
        cabinet.close()


def test_a_step_is_drawn_and_its_samples_are_written(site, sopgw, tmp_path):
    samples = tmp_path / "step.csv"
    answer = sopgw(
        "test", "step", "T4", "--to", "20kW", "--hold", "3s", "--plot", "--csv", samples, "--yes"
    )
    assert "seconds after the write" in answer.out
    assert any("\u2801" <= c <= "\u28ff" for c in answer.out), "drawn with dots"
    rows = samples.read_text().splitlines()
    assert rows[0] == "step,t_s,p_w"
    assert len(rows) > 5
    assert float(rows[1].split(",")[1]) < 0 < float(rows[-1].split(",")[1])


def test_the_process_that_holds_the_power_is_killed_and_the_station_goes_to_zero(tmp_path):
    cabinet = cabinet_module.Cabinet(tmp_path, factor=5)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "gateway", "test", "watchdog", "station", "--how", "kill-service",
             "--yes", "--json"],
            env=cabinet.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        answer = json.loads(run.stdout)
        assert (run.returncode, answer["data"]["verdict"]) == (0, "ok"), run.stdout
        kinds = [json.loads(leaf) for _index, leaf in reader.entries(tmp_path / "ledger", 0)]
        assert [k["verb"] for k in kinds if k["kind"] == "operator"] == ["test", "test hold"]
        powers = [s["p_w"] for k in kinds if k["kind"] == "intent" for s in k["setpoints"]]
        assert 10_000 in powers, "what the killed process wrote was in the ledger before"
        assert abs(cabinet.say(do="look")["p_w"][1]) < 2_500
    finally:
        cabinet.close()


def test_a_power_is_held_for_a_while_and_measured(site, sopgw):
    held = sopgw("test", "hold", "T2", "--power", "10kW", "--for", "3s", "--yes", "--json")
    assert (held.exit_code, held.json["data"]["verdict"]) == (0, "ok"), held.out
    (row,) = held.json["data"]["rows"]
    assert row["limit"] == "+10.0 ± 5.0 kW"
    assert held.json["ledger"]["entry"] is not None
    assert abs(site.say(do="look")["p_w"][1]) < 2_500


@pytest.mark.parametrize("span", ["16min", "0s"])
def test_a_power_is_not_held_for_a_day(span, site, sopgw):
    answer = sopgw("test", "hold", "T2", "--power", "1kW", "--for", span, "--yes", "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (2, "E002")


def test_holding_under_somebody_needs_the_name_of_the_sop(site, sopgw):
    answer = sopgw(
        "test", "hold", "T2", "--power", "1kW", "--confirm", "SOP-9", "--under", "99", "--json"
    )
    assert (answer.json["exit_code"], answer.json["errors"][0]["code"]) == (6, "H002")
