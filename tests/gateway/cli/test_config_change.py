"""``sopgw config diff``, ``fmt`` and ``migrate``."""

import asyncio
import shutil
from pathlib import Path

import pytest

from gateway.config.core_site import config_fields, core_site
from gateway.config.site_file import load_site
from gateway.journal.ledger_journal import LedgerJournal
from gateway.runtime.clock import SystemClock

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.yaml"
    shutil.copy(ROOT / "configs" / "sites" / "bench4.yaml", path)
    return path


def test_diff_names_every_value_that_differs(site, sopgw, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(site.read_text().replace("gate: 2 min", "gate: 5 min"))
    answer = sopgw("config", "diff", other, "-c", site, "--json")
    assert answer.exit_code == 1
    assert answer.json["data"]["differences"] == [
        {"key": "market.gate_s", "before": 120, "after": 300}
    ]
    assert sopgw("config", "diff", site, "-c", site, "--json").exit_code == 0
    assert "market.gate_s: 120 → 300" in sopgw("config", "diff", other, "-c", site).out


def test_a_terminal_is_named_and_not_numbered(site, sopgw, tmp_path):
    other = tmp_path / "other.yaml"
    text = site.read_text()
    other.write_text(text.replace("T3: {index: 2, meter: m3, domain: region-c, s: 250 kVA, guard: {p: [-230 kW",
                                  "T3: {index: 2, meter: m3, domain: region-c, s: 250 kVA, guard: {p: [-200 kW"))  # fmt: skip
    (row,) = sopgw("config", "diff", other, "-c", site, "--json").json["data"]["differences"]
    assert row == {
        "key": "sops.SOP-1.terminals.T3.p_w_min", "before": -230_000, "after": -200_000
    }  # fmt: skip


def test_the_file_is_held_against_what_the_ledger_says_the_service_uses(site, sopgw):
    assert sopgw("config", "diff", "-c", site, "--json").exit_code == 9
    found = load_site(site)

    async def start():
        journal = LedgerJournal.open(
            directory=found.ledger.dir, origin=found.ledger.origin,
            key_file=found.ledger.key_file, clock=SystemClock(),
        )  # fmt: skip
        core = core_site(found, found.sops[0])
        await journal.append(
            "config",
            {"mode": found.mode, "sha256": found.sha256, "config": config_fields(found, core, b"")},
        )
        await journal.close()

    asyncio.run(start())
    assert sopgw("config", "diff", "-c", site, "--json").exit_code == 0
    site.write_text(site.read_text().replace("gate: 2 min", "gate: 3 min"))
    answer = sopgw("config", "diff", "-c", site, "--json")
    assert (answer.exit_code, answer.json["data"]["differences"][0]["key"]) == (1, "gate_s")
    text = site.read_text().replace("gate: 3 min", "gate: 2 min")
    site.write_text(text.replace("127.0.0.1:5021", "127.0.0.1:5029"))
    answer = sopgw("config", "diff", "-c", site, "--json")
    assert answer.exit_code == 1
    assert [row["key"] for row in answer.json["data"]["differences"]] == ["sha256"]


def test_fmt_shows_checks_and_writes_keeping_the_old_one(site, sopgw):
    assert sopgw("config", "fmt", site, "--check", "--json").exit_code == 0
    untidy = site.read_text().replace("\nmode: on", "   \n\n\n\nmode: on")
    site.write_text(untidy)
    site.chmod(0o640)
    answer = sopgw("config", "fmt", site, "--json")
    assert (answer.exit_code, answer.json["data"]["written"]) == (0, False)
    assert site.read_text() == untidy
    assert sopgw("config", "fmt", site, "--check", "--json").exit_code == 1
    assert sopgw("config", "fmt", site, "--write", "--json").json["data"]["written"]
    assert site.with_name("site.yaml.bak").read_text() == untidy
    assert site.stat().st_mode & 0o777 == 0o640
    assert sopgw("config", "fmt", site, "--check", "--json").exit_code == 0


def test_fmt_of_a_file_with_mistakes_writes_nothing(site, sopgw):
    site.write_text(site.read_text().replace("master: T1", "master: T9"))
    assert sopgw("config", "fmt", site, "--write", "--json").exit_code == 3


@pytest.mark.parametrize(("version", "code"), [("1", 0), ("2", 3), ("0", 3), ("one", 3)])
def test_migrate_knows_one_version(site, sopgw, version, code):
    site.write_text(site.read_text().replace("version: 1", f"version: {version}"))
    assert sopgw("config", "migrate", site, "--json").exit_code == code


def test_a_mode_that_already_holds_needs_no_service(site, sopgw):
    site.write_text(site.read_text().replace("mode: on", "mode: blocked"))
    assert sopgw("mode", "set", "blocked", "--yes", "-c", site, "--json").exit_code == 0
    for other in ("off", "test"):
        assert sopgw("mode", "set", other, "--yes", "-c", site, "--json").exit_code == 4
