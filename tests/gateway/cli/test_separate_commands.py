"""Commands on a site with a converter at each terminal: what works by itself, and what refuses."""

import os
import re

import pytest
from fakes.separate_site import Bench

from gateway.cli.operations import OPERATIONS
from gateway.journal.ledger_journal import read_entries


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    found = Bench(tmp_path_factory.mktemp("bench"))
    yield found
    found.close()


@pytest.fixture
def run(sopgw, bench):
    def typed(*arguments):
        return sopgw(*arguments, "-c", bench.site, "--json")

    return typed


NEED_A_STATION = {
    "test signals": ("SOP-1",),
    "test interlock": (),
    "test estop": ("SOP-1",),
}


def test_every_operation_is_known_to_need_a_station_or_not():
    assert {n for n, o in OPERATIONS.items() if o.station} == set(NEED_A_STATION)


@pytest.mark.parametrize("name", NEED_A_STATION)
@pytest.mark.parametrize("consent", [(), ("--confirm", "SOP-1")], ids=["a-plan", "at-once"])
def test_tests_of_a_station_say_that_there_is_none(run, bench, name, consent):
    if name == "test signals":
        consent = ()
    written = bench.truth()["writes"]
    answer = run(*name.split(), *NEED_A_STATION[name], *consent)
    assert answer.exit_code == 5
    (finding,) = answer.json["errors"]
    assert finding["code"] == "H014"
    assert f"{name} needs a station; SOP-1 has a converter at each terminal" in str(finding)
    assert not (bench.folder / "plans").exists()
    assert not (bench.folder / "ledger").exists()
    assert bench.truth()["writes"] == written


def test_checks_that_only_read_ask_the_converters_and_the_meters(run, bench):
    answer = run("check", "network", "--count", "2")
    names = [row["name"] for row in answer.json["data"]["rows"]]
    assert names == ["c1", "c2", "c3", "c4", "m1", "m2", "m3", "m4"]
    balance = run("check", "scale", "SOP-1").json["data"]
    assert [r["name"] for r in balance["rows"]] == ["T1", "T2", "T3", "T4", "losses", "DC link"]
    assert balance["verdict"] == "ok"
    assert run("check", "scale", "m1").exit_code == 0
    unknown = run("check", "scale", "c9")
    assert unknown.exit_code == 2
    assert "SOP-1, m1" in str(unknown.json["errors"])


def test_acceptance_goes_on_past_what_needs_a_station(run, bench):
    assert run("sat", "new", "--plan", "sop-lv").exit_code == 0
    run("sat", "step", "2")
    run("sat", "step", "5", "--witness", "ann", "--confirm", "SOP-1")
    checks = {c["id"]: c for c in run("sat", "status").json["data"]["checks"]}
    assert {i: c["status"] for i, c in checks.items() if i[0] in "25"} == {
        "2.1": "ok", "5.1": "undecided", "5.2": "undecided",
    }  # fmt: skip
    assert not (bench.folder / "ledger").exists()


def test_a_plan_shows_the_set_values_of_every_terminal_and_writes_none(run, bench):
    written = bench.truth()["writes"]
    answer = run("test", "step", "T2", "--to", "10kW")
    assert answer.exit_code == 6
    (frame,) = answer.json["data"]["plan"]["frames"]
    assert frame.startswith("set values of T1, T2, T3, T4 = ")
    assert f"0000 {10_000:04X}" in frame
    assert bench.truth()["writes"] == written


def test_tests_that_move_power_need_no_station(sopgw, tmp_path, monkeypatch):
    bench = Bench(tmp_path, factor=2)
    monkeypatch.setenv("SOPGW_TIMEBASE", str(bench.timebase))

    def run(*arguments):
        answer = sopgw(*arguments, "--confirm", "SOP-1", "-c", bench.site, "--json")
        assert answer.exit_code in (0, 1), answer.out  # a late sample may be a fault of its own
        assert abs(bench.truth()["terminals"][1]["p_w"]) < 2500
        return {r["name"]: r["value"] for r in answer.json["data"]["rows"]}

    try:
        if os.environ.get("SOPGW_ALL_WAYS") == "1":
            step = run("test", "step", "T2", "--to", "20kW", "--hold", "6s")
            assert "+0 → +20 kW settling" in step
            assert "T2 measured" in run("test", "hold", "T2", "--power", "5kW", "--for", "10s")
        silent = run("test", "watchdog", "SOP-1", "--how", "drop-link")
        assert list(silent) == ["drop-link: at zero after"]
        assert re.match(r"[0-9.]+ ±", silent["drop-link: at zero after"]), silent
        assert bench.truth()["selects"] == 0  # nobody was asked but the converters
        assert bench.truth()["direct_writes"] >= 1
    finally:
        bench.close()
    written = [e["kind"] for _, e in read_entries(bench.folder / "ledger")]
    assert written.count("intent") == written.count("outcome") >= 1


def test_stop_reaches_the_converters_without_a_service(run, bench):
    run("point", "set", "c3", "p_set=0W", "--yes")
    answer = run("stop")
    assert answer.exit_code == 0, answer.out
    assert [t["p_set_w"] for t in bench.truth()["terminals"]] == [0, 0, 0, 0]


def test_doctor_asks_for_no_test_that_is_refused(run):
    told = {c["id"]: c for c in run("doctor", "safety").json["data"]["checks"]}
    assert set(told) == {"safety.watchdog", "safety.sweep"}


def test_without_a_service_the_status_says_so_and_nothing_breaks(run):
    for command in (("status",), ("limits", "show"), ("mode", "show")):
        assert run(*command).exit_code == 4
