"""Scenarios: the shipped ones hold, mistakes are named, the seed decides, real stations fit in."""

import dataclasses
import json
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from firmware_sim.__main__ import main
from firmware_sim.scenario.file import read_scenario
from firmware_sim.scenario.model import Expectation, Sample
from firmware_sim.scenario.report import junit, page
from firmware_sim.scenario.run import Run, judge, trace_rows
from firmware_sim.yamlfile import FileMistakesError

SHIPPED = sorted(Path("configs/scenarios").resolve().glob("*.yaml"))
SHORT = [p for p in SHIPPED if not p.name.startswith("day-")]


@pytest.mark.parametrize("path", SHORT, ids=lambda p: p.stem)
def test_shipped_scenario_holds(path):
    outcome = Run(read_scenario(path)).run()
    assert [(c.expectation.title, c.detail) for c in outcome.checks if not c.passed] == []
    assert outcome.checks


def test_an_hour_of_the_day_scenario():
    (path,) = (p for p in SHIPPED if p.name == "day-ieee33.yaml")
    scenario = dataclasses.replace(read_scenario(path), duration_s=3600.0)
    outcome = Run(scenario).run()
    assert abs(outcome.samples[-1].point_level["balance"]) < 1e-3
    assert sum("EXECUTED" in what for what in (e.what for e in outcome.events)) == 4
    assert 0.88 < outcome.samples[-1].point_level["grid.v_min"] < 1


def test_the_same_seed_gives_the_same_bytes():
    (path,) = (p for p in SHIPPED if p.name == "link-cut.yaml")
    scenario = read_scenario(path)

    def course(seed):
        return trace_rows(Run(scenario, seed=seed).run().samples)

    assert course(4) == course(4)
    assert course(4) != course(5)


BAD = """\
version: 1
devise: lv4x250
duration: 20
bias: 200 %
timeline:
  - {at: 1 s, operate: {T9: 5 kW}}
  - {at: 1 s, operate: {T2: 5}}
  - {at: 1 s, comand: start}
  - {at: 2 s, inject: lightning}
expect:
  - {at: 1 s, point: T1.w, is: 5 kW, within: 1 kW}
  - {at: 1 s, point: T1.p}
"""


def test_every_mistake_with_file_line_and_column(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    with pytest.raises(FileMistakesError) as found:
        read_scenario(path)
    lines = [line.removeprefix(f"{path}:") for line in str(found.value).splitlines()]
    places = {line.split(": ")[0]: line for line in lines}
    for place, words in {
        "2:1": "did you mean device?",
        "3:1": "20 is no time",
        "4:1": "out of range",
        "6:25": "unknown key T9",
        "7:25": "5 is no power",
        "8:15": "did you mean command?",
        "9:15": "'lightning' is not one of",
        "11:15": "'T1.w' is not one of",
        "12:5": "is and within, min, or max",
    }.items():
        assert words in places[place], (place, lines)


def test_exit_codes_and_results_on_disk(tmp_path):
    def run(*args):
        return CliRunner().invoke(main, ["run", *map(str, args)])

    (good,) = (p for p in SHIPPED if p.name == "full-load.yaml")
    out = {k: tmp_path / f"out.{k}" for k in ("junit", "html", "csv")}
    done = run(good, *(f"--{k}={v}" for k, v in out.items()))
    assert done.exit_code == 0, done.output
    suite = ElementTree.parse(out["junit"]).getroot()[0]
    assert suite.get("failures") == "0"
    assert len(suite) == 6
    assert "http" not in out["html"].read_text()
    assert "<svg" in out["html"].read_text()
    assert out["csv"].read_text().startswith("t_s,T1.energy,")
    text = good.read_text().replace("is: -160 kW", "is: -150 kW")
    bad = tmp_path / "wrong.yaml"
    bad.write_text(text)
    done = run(bad, "--json", f"--junit={out['junit']}")
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert data["ok"] is False
    assert [c["ok"] for c in data["data"]["scenarios"][0]["checks"]].count(False) == 1
    assert "wrong.yaml:11" in out["junit"].read_text()
    broken = tmp_path / "broken.yaml"
    broken.write_text(BAD)
    done = run(broken)
    assert done.exit_code == 3
    assert f"{broken}:2:1: unknown key devise" in done.stderr
    assert run(tmp_path / "none.yaml").exit_code == 2


def test_judging():
    samples = tuple(
        Sample(t_s=float(t), point_level={"T1.p": 10.0 * t}, words={"state": "RUN"})
        for t in range(5)
    )

    def expect(**kw):
        return judge(Expectation(line_number=1, **kw), samples)

    assert expect(point="T1.p", from_s=2, to_s=2, lowest_level=20, highest_level=20).passed
    assert expect(point="T1.p", from_s=1.5, to_s=1.5, lowest_level=20, highest_level=20).passed
    assert not expect(point="T1.p", from_s=0, to_s=4, lowest_level=5).passed
    assert not expect(point="T1.p", from_s=9, to_s=9, lowest_level=5).passed
    assert not expect(point="T2.p", from_s=0, to_s=4, lowest_level=5).passed
    assert expect(point="state", from_s=0, to_s=4, word="run").passed
    assert not expect(point="state", from_s=0, to_s=4, word="STANDBY").passed


CLEARED = """\
version: 1
duration: 30 s
bias: 0 %
noise: 0 %
timeline:
  - {at: 0 s, inject: stuck, with: {terminal: 2}, for: 20 s}
  - {at: 0 s, inject: clip, with: {terminal: 3, limit_w: 10000}}
  - {at: 0 s, inject: breaker_stuck, with: {terminal: 4}}
  - {at: 0 s, inject: feeder, with: {terminal: 4, v_v: 380}}
  - {at: 1 s, inject: clear}
  - {at: 2 s, operate: {T2: 100 kW, T3: -100 kW}}
  - {at: 15 s, inject: stuck, with: {terminal: 2}}
  - {at: 21 s, operate: {T2: 50 kW}}
expect:
  - {at: 14 s, point: T2.p, is: 100 kW, within: 1 kW}
  - {at: 14 s, point: T3.p, is: -100 kW, within: 1 kW}
  - {at: 14 s, point: T4.v, is: 400 V, within: 1 V}
  - {at: end, point: T2.p, is: 100 kW, within: 1 kW}
"""


def test_clear_takes_back_every_fault_and_what_was_to_end_it(tmp_path):
    path = tmp_path / "cleared.yaml"
    path.write_text(CLEARED)
    outcome = Run(read_scenario(path)).run()
    assert [(c.expectation.title, c.detail) for c in outcome.checks if not c.passed] == []


WRONG_FAULTS = """\
version: 1
duration: 5 s
timeline:
  - {at: 1 s, inject: trip}
  - {at: 1 s, inject: stuck, with: {terminal: 7}}
  - {at: 1 s, inject: feeder, with: {terminal: 2, v_v: 300 V}}
  - {at: 1 s, inject: clip, with: {terminal: 2, limit: 5}}
  - {at: 1 s, inject: branch_out, with: {branch: "16-17"}}
expect:
  - {at: end, point: state, equals: STANDBY}
"""


def test_a_fault_that_could_not_be_injected_is_a_mistake_of_the_file(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(WRONG_FAULTS)
    done = CliRunner().invoke(main, ["run", str(path)])
    assert done.exit_code == 3
    for place, words in (
        (":4:15: ", "terminal is missing"),
        (":5:37: ", "7 is not 1 to 4"),
        (":6:51: ", "'300 V' is no number"),
        (":7:49: ", "did you mean limit_w?"),
        (":8:15: ", "needs feeders"),
    ):
        (line,) = (x for x in done.stderr.splitlines() if place in x)
        assert words in line


MIXED = """\
version: 1
name: a station at an address in simulated feeders
device: lv4x250
grid: ieee33-4t
profile: constant
station: "127.0.0.1:{port}"
meters: {{T2: "127.0.0.1:{meter}"}}
step: 1 s
duration: 15 s
timeline:
  - {{at: 1 s, operate: {{T2: 100 kW, T3: -50 kW}}}}
  - {{at: 2 s, inject: estop}}
expect:
  - {{at: 12 s, point: T2.p, is: 100 kW, within: 3 kW}}
  - {{at: 12 s, point: ack, equals: EXECUTED}}
  - {{at: 12 s, point: grid.loss, min: 100 kW, max: 220 kW}}
  - {{at: end, point: state, equals: RUN}}
  - {{at: end, point: T2.metered, min: 200 Wh, max: 500 Wh}}
"""


def test_a_real_address_takes_the_place_of_the_simulated_station(start, tmp_path):
    device = start("--speed", "30")
    path = tmp_path / "mixed.yaml"
    path.write_text(
        MIXED.format(port=device.listening["station"], meter=device.listening["meters"][1])
    )
    began_us = None

    def pace(t_s):
        nonlocal began_us
        if began_us is None:  # what it takes to set the run up is no time of the scenario
            began_us = device.truth()["t_us"] - t_s * 1e6
        while device.truth()["t_us"] - began_us < t_s * 1e6:
            time.sleep(0.005)

    outcome = Run(read_scenario(path), pace=pace).run()
    assert [(c.expectation.title, c.detail) for c in outcome.checks if not c.passed] == []
    assert any("the station is real" in what for what in (e.what for e in outcome.events))
    assert device.truth()["operates"] == 1
    assert junit([outcome]).count("<testcase") == 5
    assert "passed" in page([outcome])
