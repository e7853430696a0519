"""``sopgw config``: what is printed and how it ends."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"
BROKEN = ROOT / "tests" / "gateway" / "config" / "broken" / "site"


def test_check_of_a_good_file(sopgw):
    answer = sopgw("config", "check", BENCH)
    assert answer.exit_code == 0
    assert f"{BENCH}: no errors." in answer.out
    assert "4 terminals" in answer.out


def test_check_of_a_broken_file_prints_every_mistake_and_loads_nothing(sopgw):
    answer = sopgw("config", "check", BROKEN / "several-at-once.yaml")
    assert answer.exit_code == 3
    assert answer.out.count("error[C") == 5
    assert answer.out.rstrip().endswith("5 errors. Nothing was loaded.")


def test_check_as_json_says_the_same_on_success_and_failure(sopgw):
    good = sopgw("config", "check", BENCH, "--json").json
    assert good["schema"] == "sopgw/v1/config.check"
    assert good["data"]["files"][0]["errors"] == []
    bad = sopgw("config", "check", BENCH, BROKEN / "index-twice.yaml", "--json").json
    assert bad["exit_code"] == 3
    assert [f["sha256"] is None for f in bad["data"]["files"]] == [False, True]
    assert bad["errors"][0]["code"] == "C021"
    assert bad["errors"][0]["where"].endswith("index-twice.yaml:26:19")
    assert bad["errors"] == bad["data"]["files"][1]["errors"]


def test_check_reads_the_alarm_file_beside_the_site_file_too(sopgw, tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(BENCH.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "alarms.yaml").write_text("version: 1\nalarms: {A-999: {}}\n", encoding="utf-8")
    answer = sopgw("config", "check", path)
    assert answer.exit_code == 3
    assert "alarms.yaml:2:" in answer.out
    assert "4 terminals" not in answer.out


def test_check_takes_the_file_of_the_environment(sopgw, monkeypatch):
    monkeypatch.setenv("SOPGW_CONFIG", str(BENCH))
    assert sopgw("config", "check").exit_code == 0


def test_show_of_a_missing_file(sopgw, tmp_path):
    answer = sopgw("config", "show", "-c", tmp_path / "none.yaml")
    assert answer.exit_code == 3
    assert answer.out == ""
    assert "error[C001]" in answer.err
    assert sopgw("config", "show", "-c", tmp_path / "none.yaml", "--json").json["exit_code"] == 3


@pytest.fixture
def site_with_secrets(tmp_path):
    (tmp_path / "ledger.key").write_text("TOP-SECRET-KEY")
    (tmp_path / "ledger.key").chmod(0o600)
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "password").chmod(0o644)
    text = BENCH.read_text().replace(
        "  broker: mqtt://127.0.0.1:1883",
        "  broker: mqtts://127.0.0.1:8883\n  username: gw\n  password: {file: password}",
    )
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "arguments", [(), ("--effective",), ("--json",), ("--effective", "--json")]
)
def test_show_never_tells_a_secret(sopgw, site_with_secrets, arguments):
    answer = sopgw("config", "show", "-c", site_with_secrets, *arguments)
    assert answer.exit_code == 0
    assert "TOP-SECRET" not in answer.out + answer.err
    assert "hunter2" not in answer.out + answer.err


def test_show_says_what_can_be_said_of_a_secret(sopgw, site_with_secrets):
    out = sopgw("config", "show", "-c", site_with_secrets).out
    assert f"ledger.key: ••••• ({site_with_secrets.parent}/ledger.key, 14 bytes)" in out
    assert "7 bytes; readable by others: chmod 600)" in out


def test_effective_shows_defaults_in_base_units(sopgw):
    answer = sopgw("config", "show", "--effective", "-c", BENCH, "--json").json
    effective = answer["data"]["effective"]
    assert effective["runtime"] == {
        "scan_ms": 1000,
        "meter_poll_ms": 5000,
        "clock": "kernel",
        "restarts": 5,
    }
    assert effective["sops"]["SOP-1"]["terminals"][1]["p_w_max"] == 230_000
    assert effective["web"] is None
    text = sopgw("config", "show", "--effective", "-c", BENCH).out
    body, _, tail = text.rstrip().rpartition("\n")
    assert json.loads(body) == effective
    assert tail == f"sha256 {answer['data']['sha256']}"


def test_show_for_people_words_directions(sopgw):
    out = sopgw("config", "show", "-c", BENCH).out
    assert "absorbs up to 230.0 kW, injects up to 230.0 kW, ramp 50 kW/s" in out


@pytest.mark.parametrize("kind", ["config", "profile"])
def test_schema_is_the_shipped_one(sopgw, kind):
    shipped = (ROOT / "configs" / "schema" / f"{kind}.schema.json").read_text(encoding="utf-8")
    assert sopgw("config", "schema", kind).out == shipped, (
        f"sopgw config schema {kind} > configs/schema/{kind}.schema.json"
    )


def test_schema_of_answers(sopgw):
    found = sopgw("config", "schema", "output", "--json").json["data"]["schema"]
    assert "envelope" in found
    assert "config.check" in found


@pytest.fixture
def site_with_a_broken_profile(tmp_path):
    """Its own mistakes and those of a profile beside it."""
    (tmp_path / "meter.yaml").write_text(
        "profile: meter\nversion: 1\nkind: meter\nprotocol: modbus\nsign: {p: import_positive}\n"
        "points:\n  p: {reg: input/0, type: int32, unit: kw}\n"
        "  q: {reg: input/1, type: int32, unit: var}\n"
    )
    text = BENCH.read_text().replace("m2: {profile: schneider-iem3255", "m2: {profile: meter.yaml")
    path = tmp_path / "site.yaml"
    path.write_text(text.replace("master: T1", "master: T9"))
    return path


@pytest.mark.parametrize("command", [("config", "check"), ("config", "show", "-c"), ("run", "-c")])
def test_mistakes_of_site_and_profile_come_at_once(sopgw, site_with_a_broken_profile, command):
    answer = sopgw(*command, site_with_a_broken_profile)
    assert answer.exit_code == 3
    said = answer.out + answer.err
    folder = site_with_a_broken_profile.parent
    for line in (
        "error[P012]: unknown unit “kw” for point “p”",
        f"--> {folder}/meter.yaml:7:40",
        "error[P021]: register input/1 is already used by “p” (line 7)",
        f"--> {folder}/meter.yaml:8:12",
        "error[C020]: the master “T9” is no terminal of SOP-1",
        f"--> {folder}/site.yaml:18:13",
        "= help: write `unit: kW` (units are case-sensitive: kW, not kw)",
    ):
        assert line in said
    assert said.rstrip().endswith("3 errors. Nothing was loaded.")
