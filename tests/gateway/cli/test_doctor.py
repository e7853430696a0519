import json
import os
import re
from pathlib import Path

import pytest

from gateway.config.site_file import check_site

BENCH = Path(__file__).resolve().parents[3] / "configs" / "sites" / "bench4.yaml"


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    text = re.sub(r"127\.0\.0\.1:50(\d\d)", r"127.0.0.1:1\1", BENCH.read_text())
    path.write_text(text)
    path.chmod(0o644)
    assert check_site(path)[1] is not None
    return path


def lines(answer):
    return {c["id"]: c for c in answer.json["data"]["checks"]}


def test_each_line_has_an_id_a_status_and_a_fix_where_it_is_not_ok(site, sopgw):
    answer = sopgw("doctor", "-c", site, "--json")
    found = lines(answer)
    assert {
        "host.python",
        "host.disk",
        "clock.sync",
        "config.valid",
        "devices.m1",
        "broker.listens",
    } <= set(found)
    assert all(c["fix"] for c in found.values() if c["status"] in ("warn", "fail"))
    assert found["devices.station"]["status"] == "fail"
    assert answer.exit_code == 1


def test_a_check_or_a_group_alone(site, sopgw):
    assert set(lines(sopgw("doctor", "host", "-c", site, "--json"))) == {
        "host.python",
        "host.disk",
        "host.memory",
    }
    assert set(lines(sopgw("doctor", "config.valid", "-c", site, "--json"))) == {"config.valid"}


def test_the_same_in_four_forms(site, sopgw):
    text = sopgw("doctor", "config", "-c", site)
    assert "✓ config.valid" in text.out
    assert re.search(r"\d checks: \d ok, \d warnings, \d failed", text.out)
    by_format = sopgw("doctor", "config", "--format", "json", "-c", site)
    assert json.loads(by_format.out)["data"]["checks"]
    metrics = sopgw("doctor", "config", "--format", "prometheus", "-c", site)
    assert 'sopgw_doctor_status{check="config.valid"} 0' in metrics.out
    assert metrics.out.startswith("# HELP sopgw_doctor_status ")


@pytest.mark.parametrize(
    ("checks", "code", "word"),
    [
        (("config",), 0, "OK"),
        (("ledger",), 1, "WARNING"),
        (("devices",), 2, "CRITICAL"),
        (("nothing",), 3, "UNKNOWN"),
    ],
)
def test_nagios_has_its_own_exit_codes(checks, code, word, site, sopgw):
    answer = sopgw("doctor", *checks, "--format", "nagios", "-c", site)
    assert answer.exit_code == code
    assert answer.out.startswith(f"SOPGW {word} - ")
    assert len(answer.out.splitlines()) == 1


def test_fix_mends_what_is_safe_to_mend(site, sopgw):
    site.chmod(0o666)
    found = lines(sopgw("doctor", "config", "-c", site, "--json"))["config.permissions"]
    assert found["status"] == "warn"
    assert "chmod 664" in found["fix"]
    answer = sopgw("doctor", "config", "--fix", "-c", site, "--json")
    assert lines(answer)["config.permissions"]["status"] == "ok"
    assert not site.stat().st_mode & 0o002


def test_an_open_ledger_key_is_a_failure(site, sopgw):
    key = site.parent / "ledger.key"
    key.write_text("secret")
    key.chmod(0o644)
    answer = sopgw("doctor", "config", "-c", site, "--json")
    assert answer.exit_code == 1
    assert lines(answer)["config.ledger-key"]["status"] == "fail"
    assert "secret" not in answer.out
    assert sopgw("doctor", "config", "--fix", "-c", site, "--json").exit_code == 0
    assert key.stat().st_mode & 0o077 == 0


def test_a_broken_site_file_is_a_line_and_not_the_end(site, sopgw):
    site.write_text("version: 1\nsite: {}\n")
    answer = sopgw("doctor", "-c", site, "--json")
    assert lines(answer)["config.valid"]["status"] == "fail"
    assert "host.disk" in lines(answer)


def test_a_socket_nobody_answers_at_is_a_failure(site, sopgw):
    assert (
        lines(sopgw("doctor", "service", "-c", site, "--json"))["service.running"]["status"]
        == "warn"
    )
    os.mkfifo(site.parent / "sopgw.sock")
    assert (
        lines(sopgw("doctor", "service", "-c", site, "--json"))["service.running"]["status"]
        == "fail"
    )


def test_an_own_market_node_that_is_not_there_is_said_so(site, sopgw):
    node = "  node: {url: http://127.0.0.1:9, party: gw}\n"
    site.write_text(site.read_text().replace("  required:", f"{node}  required:"))
    found = lines(sopgw("doctor", "node", "-c", site, "--json"))
    assert found["node.listens"]["status"] == "fail"
    assert "sopledger node run" in found["node.listens"]["fix"]
