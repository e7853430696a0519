import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.operations import OPERATIONS
from gateway.commissioning.finding import Verdict
from gateway.commissioning.sat.record import CheckOutcome
from gateway.commissioning.session import NotBack
from gateway.runtime.latch import FILE, leave

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"


@pytest.fixture
def site(tmp_path, monkeypatch):
    path = tmp_path / "site.yaml"
    shutil.copy(BENCH, path)
    monkeypatch.setenv("SOPGW_CONFIG", str(path))
    return path


@pytest.fixture
def run(site, sopgw):
    return sopgw("sat", "new", "--plan", "sop-lv", "--phase", "fat", "--json").json["data"]["run"]


def test_a_new_run_binds_the_plan_to_the_site(site, run, sopgw):
    status = sopgw("sat", "status", "--json").json["data"]
    assert status["verdict"] == "incomplete"
    assert [s["id"] for s in status["steps"]] == [str(n) for n in range(1, 11)]
    assert len(status["checks"]) == 24
    assert sopgw("sat", "ls", "--json").json["data"]["runs"][0]["run"] == run
    second = sopgw("sat", "new", "--plan", "sop-lv", "--json").json["data"]["run"]
    assert second == run[:-1] + "b"


def test_a_plan_that_is_not_there_or_wrong(site, sopgw, tmp_path):
    assert sopgw("sat", "new", "--plan", "nonsense", "--json").exit_code == 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "plan: wrong\ntitle: T\nsteps:\n  - title: A\n    hold: X\n    checks:\n      - {run: check clok}\n"
    )
    answer = sopgw("sat", "new", "--plan", wrong, "--json")
    assert answer.exit_code == 3
    places = [e["where"].removeprefix(f"{wrong}:") for e in answer.json["errors"]]
    assert places == ["5:11", "7:15"]


def test_skipping_needs_a_reason_and_a_check(site, run, sopgw):
    assert sopgw("sat", "skip", "8", "--why", "no panel", "--json").json["data"]["skipped"] == [
        "8.1"
    ]
    assert sopgw("sat", "skip", "8.1", "--why", " ", "--json").exit_code == 2
    assert sopgw("sat", "skip", "77", "--why", "x", "--json").exit_code == 2


def test_a_step_that_only_reads_the_machine_runs_without_devices(site, run, sopgw):
    answer = sopgw("sat", "step", "2", "--json")
    assert answer.exit_code == 1
    punch = answer.json["data"]["punch"]
    assert {p["where"] for p in punch} == {"station", "m1", "m2", "m3", "m4"}
    assert {p["number"][0] for p in punch} == {"A"}
    text = sopgw("sat", "status").out
    assert "! fault" in text
    assert "punch A-01: station" in text
    closing = sopgw("sat", "close", "A-01", "--how", "looks fine", "--json")
    assert closing.exit_code == 5


def test_a_mute_device_is_a_finding_and_the_walk_goes_on(site, run, sopgw):
    answer = sopgw("sat", "step", "3", "--json")
    assert answer.exit_code == 1
    checks = sopgw("sat", "status", "--json").json["data"]["checks"]
    assert [c["status"] for c in checks if c["id"].startswith("3.")] == ["fault"] * 5
    assert {p["where"] for p in answer.json["data"]["punch"]} == {"station", "m1", "m2", "m3", "m4"}


def statuses(sopgw, step):
    checks = sopgw("sat", "status", "--json").json["data"]["checks"]
    return [c["status"] for c in checks if c["id"].startswith(f"{step}.")]


def test_a_walk_ends_where_the_station_is_not_known_to_be_at_zero(site, run, sopgw, monkeypatch):
    called = []

    async def moving(_field, _given):
        called.append(1)
        raise NotBack("station", "did not take zero")

    operation = replace(OPERATIONS["check scale"], run=moving)
    monkeypatch.setitem(OPERATIONS, "check scale", operation)
    answer = sopgw("sat", "step", "3", "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (7, "H007")
    assert len(called) == 1
    assert statuses(sopgw, 3) == ["fault", "open", "open", "open", "open"]


def test_after_a_stop_no_further_check_of_a_walk_moves_power(site, run, sopgw, monkeypatch):
    called = []

    async def stopped_meanwhile(_field, _given):
        called.append(1)
        leave(site.parent / FILE, user="uid:7")
        return CheckOutcome(verdict=Verdict.OK)

    operation = replace(OPERATIONS["check wiring"], run=stopped_meanwhile)
    monkeypatch.setitem(OPERATIONS, "check wiring", operation)
    answer = sopgw("sat", "step", "4", "--confirm", "SOP-1", "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (5, "H005")
    assert len(called) == 1
    assert statuses(sopgw, 4)[0] == "ok"


def test_without_a_run_each_command_says_how_to_begin(site, sopgw):
    for words in (("status",), ("run",), ("report",), ("skip", "1", "--why", "x")):
        answer = sopgw("sat", *words, "--json")
        assert answer.exit_code == 2
        assert "sat new" in answer.json["errors"][0]["help"]


def test_reports_are_the_same_bytes_and_verify_or_not(site, run, sopgw):
    first = sopgw("sat", "report", "--pdf", "--json").json["data"]["files"]
    before = {name: Path(name).read_bytes() for name in first}
    sopgw("sat", "report", "--pdf", "--json")
    assert {name: Path(name).read_bytes() for name in first} == before
    for name in first:
        answer = sopgw("sat", "verify", name, "--json")
        assert answer.exit_code == 0, answer.out
        assert any("nobody signed" in t for t in answer.json["data"]["not_checked"])
    page = Path(first[1])
    page.write_bytes(page.read_bytes().replace(b"incomplete", b"accepted", 1))
    answer = sopgw("sat", "verify", page, "--json")
    assert answer.exit_code == 8
    assert answer.json["errors"]


def test_a_source_for_archives_stands_beside_the_record(site, run, sopgw):
    files = sopgw("sat", "report", "--typ", "--lang", "de", "--json").json["data"]["files"]
    assert [Path(f).name for f in files] == ["report.json", "report.html", "report.typ"]
    assert "Abnahmebericht" in Path(files[2]).read_text()


def test_two_reports_of_one_plan_are_compared(site, run, sopgw, tmp_path):
    files = sopgw("sat", "report", "--json").json["data"]["files"]
    other = json.loads(Path(files[0]).read_text())
    same = sopgw("sat", "compare", files[0], files[1], "--json")
    assert (same.exit_code, same.json["data"]["differences"]) == (0, [])
    other["record"]["checks"][0]["status"] = "ok"
    better = tmp_path / "fat.json"
    better.write_text(json.dumps(other))
    worse = sopgw("sat", "compare", better, files[0], "--json")
    assert worse.exit_code == 1
    assert worse.json["data"]["differences"][0]["worse"]
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    assert sopgw("sat", "compare", nothing, nothing, "--json").exit_code == 3


def test_signing_on_paper_marks_it_so(site, run, sopgw, tmp_path):
    photo = tmp_path / "page.jpg"
    photo.write_bytes(b"a photo")
    answer = sopgw("sat", "sign", "--role", "witness", "--name", "DSO", "--paper", photo, "--json")
    assert answer.exit_code == 0, answer.out
    assert answer.json["data"]["verdict"] == "incomplete"
    assert answer.json["data"]["anchor"]["index"] == 0
    html = next(f for f in answer.json["data"]["files"] if f.endswith(".html"))
    assert "paper signature" in Path(html).read_text()
    verified = sopgw("sat", "verify", html, "--ledger", site.parent / "ledger", "--json")
    assert verified.exit_code == 0
    assert any("anchored at" in t for t in verified.json["data"]["checked"])


def test_a_signature_on_paper_needs_a_name(site, run, sopgw, tmp_path):
    photo = tmp_path / "page.jpg"
    photo.write_bytes(b"a photo")
    answer = sopgw("sat", "sign", "--role", "witness", "--paper", photo, "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (2, "S026")


def test_signing_without_an_agent_says_what_is_missing(site, run, sopgw, monkeypatch, tmp_path):
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "none"))
    answer = sopgw("sat", "sign", "--name", "e@example", "--json")
    assert answer.exit_code == 2
    assert "no key" in answer.json["errors"][0]["message"]


def test_a_report_nested_without_end_is_no_report(sopgw, tmp_path):
    path = tmp_path / "deep.json"
    path.write_bytes(b"[" * 20_000)
    assert sopgw("sat", "verify", path, "--json").exit_code == 8
    answer = sopgw("sat", "compare", path, path, "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (3, "S025")
