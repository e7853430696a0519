"""From an unknown cabinet to a signed report, typed at a real terminal against planted faults."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[3]
SPEC = importlib.util.spec_from_file_location("cabinet", ROOT / "tests" / "fakes" / "cabinet.py")
cabinet_module = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(cabinet_module)
PLANTS = ["reversed:m2:L2", "words:m3", "ratio:m4:0.5", "watchdog", "door"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Shell:
    """Types commands at a pseudo terminal and answers what is asked at the panel."""

    PANEL = (
        ("Turn the switch at the panel to LOCAL", "local"),
        ("Turn the switch back to REMOTE", "remote"),
        ("Open the cabinet door", "open-door"),
        ("Close the cabinet door", "close-door"),
        ("Press the emergency stop", "press"),
        ("Release and reset the emergency stop", "release"),
    )

    def __init__(self, cabinet, env):
        self.cabinet, self.env, self.log = cabinet, env, []

    def type(self, line):
        """Run one command; return its text and exit code."""
        began = time.monotonic()
        child = pexpect.spawn(
            sys.executable,
            ["-m", "gateway", *_words(line)],
            env=self.env,
            cwd=str(ROOT),
            encoding="utf-8",
            timeout=120,
            dimensions=(40, 160),
        )
        text = ""
        while True:
            at = child.expect([r"press Enter\.[^\n]*\[q\]uit ", r"to go on[^\n]*: ", pexpect.EOF])
            text += child.before + (child.after if isinstance(child.after, str) else "")
            if at == 0:
                asked = (child.before + child.after).rsplit("\n", 1)[-1]
                word = next(w for t, w in self.PANEL if t in asked)
                self.cabinet.say(do="panel", what=word)
                child.sendline("")
            elif at == 1:
                child.sendline("SOP-1")
            else:
                break
        child.close()
        self.log.append((line, text, child.exitstatus, time.monotonic() - began))
        return text, child.exitstatus


def _words(line):
    import shlex

    return shlex.split(line)


@pytest.fixture
def cabinet(tmp_path):
    cabinet = cabinet_module.Cabinet(tmp_path, PLANTS)
    yield cabinet
    cabinet.close()


@pytest.fixture
def shell(cabinet, tmp_path):
    agent = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(agent)], stdout=subprocess.DEVNULL)
    while not agent.exists():
        assert process.poll() is None
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    env = cabinet.env | {"SSH_AUTH_SOCK": str(agent)}
    subprocess.run(["ssh-add", "-q", str(key)], check=True, env=env)
    public = key.with_name("id.pub").read_text()
    (tmp_path / "allowed_signers").write_text(f"engineer@example {public}")
    typist = Shell(cabinet, env)
    yield typist
    for line, _text, code, took_s in typist.log:
        print(f"{took_s:5.1f} s  exit {code}  sopgw {line}")
    process.terminate()
    process.wait()


def short_plan(folder):
    """The shipped plan with a small sweep and short steps."""
    text = (ROOT / "configs" / "plans" / "sop-lv.yaml").read_text()
    text = text.replace("--angles 8 --radius 30%,60%", "--angles 4 --radius 30%")
    text = text.replace("--to 25kW --return", "--to 25kW --hold 5s")
    path = folder / "sop-lv.yaml"
    path.write_text(text)
    return path


def punch(text):
    """Items that stand open in the status at the end."""
    return set(re.findall(r"[ABC]-\d\d: [^;\r\n]*[^;\r\n ]", text))


@pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="openssh-client is not installed")
def test_five_planted_faults_are_found_listed_signed_mended_and_accepted(shell, cabinet, tmp_path):
    text, code = shell.type(f"init {tmp_path / 'etc'} --site elm")
    assert code == 0
    _text, code = shell.type("doctor host clock config devices")
    assert code == 0
    port = re.search(r"127\.0\.0\.1:(\d+)", (tmp_path / "site.yaml").read_text())[1]
    text, code = shell.type(f"scan modbus-tcp 127.0.0.1 --port {port} --units 1,100")
    assert (code, "sop-station-v1" in text) == (0, True), text
    text, code = shell.type("device identify m1")
    assert (code, "iEM3255" in text) == (0, True), text
    _text, code = shell.type("config check")
    assert code == 0
    text, code = shell.type(f"sat new --plan {short_plan(tmp_path)} --witness 'DSO witness'")
    assert code == 0
    run = re.search(r"Run (\S+) begun", text)[1]

    text, code = shell.type("sat run")
    assert code == 6, "the interlocks are a hold point"
    text, code = shell.type("sat run --witness 'DSO witness'")
    assert f"Resuming run {run}" in text
    assert code == 5, "the setpoint steps wait for the A items"
    found = {
        "3.3": "sends the low word first",
        "4.2": "CT on L2 is reversed",
        "4.4": "1/2 of the truth",
        "5.1": "interlock reads active at rest",
        "6.1": "did not go to zero",
    }
    record = [
        json.loads(x) for x in (tmp_path / "sat" / run / "events.jsonl").read_text().splitlines()
    ]
    last = {e["check"]: e for e in record if e["kind"] == "done"}
    for check, words in found.items():
        assert any(words in f["what"] for f in last[check]["findings"]), (check, last[check])
    clean = [c for c in last if c not in {*found, "4.3", "6.2"}]
    assert all(not last[c]["findings"] for c in clean)
    assert last["4.3"]["verdict"] == "undecided", "m3 cannot be judged before its words are right"

    _text, code = shell.type("sat report --pdf")
    assert code == 0
    text, code = shell.type("sat sign --name engineer@example")
    assert code == 0
    assert "rejected" in text
    assert "anchored in the ledger" in text
    first = (tmp_path / "sat" / run / "report.html").read_text()
    assert all(words in first for words in found.values())

    cabinet.say(do="mend")
    text, code = shell.type("sat run --witness 'DSO witness'")
    assert code == 0, text
    assert re.search(r"plan sop-lv r1 +accepted\r?\n", text), text
    assert not punch(text)
    text, code = shell.type("sat sign --name engineer@example")
    assert code == 0
    signers = tmp_path / "allowed_signers"
    for form in ("pdf", "html", "json"):
        report = tmp_path / "sat" / run / f"report.{form}"
        text, code = shell.type(
            f"sat verify {report} --signers {signers} --ledger {tmp_path / 'ledger'}"
        )
        assert code == 0, text
        assert "no errors were found" in text
        assert "signature of commissioning engineer@example" in text
        assert "anchored at elm.example/SOP-1" in text
    page = tmp_path / "sat" / run / "report.html"
    page.write_text(page.read_text().replace("231.", "232.", 1).replace("230.", "231.", 1))
    text, code = shell.type(f"sat verify {page} --signers {signers}")
    assert code == 8
    assert all(abs(p) < 2500 for p in cabinet.say(do="look")["p_w"][1:])
