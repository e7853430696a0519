"""Acceptance while the service runs: it lends control, keeps the ledger and takes back at any end."""

import asyncio
import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.journal.ledger_journal import read_entries
from gateway.runtime.control import ask

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("cabinet", ROOT / "tests" / "fakes" / "cabinet.py")
cabinet_module = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cabinet_module)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PLAN = """\
plan: short
revision: 1
title: Short
steps:
  - title: Setpoint steps
    purpose: One step.
    checks:
      - {run: "test step {terminal} --to 10kW --hold 4s", title: "Step of {terminal}", each: slave}
"""


class Served:
    """A simulated cabinet with its service running."""

    def __init__(self, folder):
        self.folder = folder
        self.cabinet = cabinet_module.Cabinet(folder, factor=3)
        self.env = self.cabinet.env
        self.log = (folder / "service.log").open("w")
        self.service = subprocess.Popen(
            [sys.executable, "-m", "gateway", "run", "--timebase", str(folder / "timebase.json")],
            env=self.env, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        self.socket = folder / "sopgw.sock"

    def status(self):
        return asyncio.run(ask(self.socket, {"verb": "status"}, timeout_s=30))["status"]

    def until(self, condition, what):
        end = time.monotonic() + 90
        while not condition():
            assert self.service.poll() is None, (self.folder / "service.log").read_text()
            assert time.monotonic() < end, what
            time.sleep(0.1)

    def sopgw(self, *words, **more):
        return subprocess.run(
            [sys.executable, "-m", "gateway", *map(str, words)], env=self.env, check=False,
            capture_output=True, text=True, stdin=subprocess.DEVNULL, **more,
        )  # fmt: skip

    def begin(self, *words):
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", *words], env=self.env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def entries(self):
        return [entry for _index, entry in read_entries(self.folder / "ledger")]

    def close(self):
        self.service.send_signal(signal.SIGTERM)
        self.service.wait(60)
        self.log.close()
        self.cabinet.close()


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    served.close()


def test_acceptance_borrows_control_from_the_service_and_gives_it_back(served, tmp_path):
    served.until(served.socket.exists, "the service never listened")
    served.until(lambda: served.status()["station_age_ms"] is not None, "no station")

    # In mode blocked nothing is lent, and the answer says what to do.
    refused = served.sopgw("test", "step", "T2", "--to", "10kW", "--yes", "--json")
    answer = json.loads(refused.stdout)
    assert refused.returncode == 5, answer
    assert "mode test" in json.dumps(answer["errors"])
    assert served.sopgw("mode", "set", "test", "--yes").returncode == 0

    plan = tmp_path / "short.yaml"
    plan.write_text(PLAN)
    assert served.sopgw("sat", "new", "--plan", plan).returncode == 0
    running = served.begin("sat", "run", "--confirm", "SOP-1", "--json")
    served.until(
        lambda: served.cabinet.say(do="look")["p_w"][1] > 8_000 or running.poll() is not None,
        "no power",
    )
    assert running.poll() is None, running.communicate()

    out, err = running.communicate(timeout=200)
    assert running.returncode in (0, 9), (out, err)
    state = json.loads(out)["data"]
    assert state["verdict"] in ("accepted", "incomplete")

    status = served.status()
    assert status["control"]["holder"] == "trades", "given back at the end"
    entries = served.entries()
    intents = [e for e in entries if e["kind"] == "intent" and e["authority"] == "operator"]
    assert len(intents) >= 6, "every change of power is in the service's own ledger"
    assert {e["boot"] for e in intents} == {entries[-1]["boot"]}
    assert any(e["kind"] == "operator" and e["verb"] == "sat" for e in entries)

    # A session that is killed leaves the station at zero, and control with the service.
    held = served.begin("test", "step", "T2", "--to", "25kW", "--hold", "1h", "--yes")
    served.until(lambda: served.cabinet.say(do="look")["p_w"][1] > 24_000, "no power")
    # One holder of control: the second one is told who holds it.
    second = served.sopgw("test", "step", "T3", "--to", "10kW", "--yes", "--json")
    assert second.returncode == 10, second.stdout
    assert served.status()["control"]["what"].startswith("test step T2")
    held.send_signal(signal.SIGKILL)
    held.communicate()
    served.until(lambda: abs(served.cabinet.say(do="look")["p_w"][1]) < 2_500, "still under power")
    served.until(lambda: served.status()["control"]["holder"] == "trades", "never taken back")
