"""Names for Tab come from the lines of files, without YAML; what is not found is not completed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli.names import keys_under
from gateway.config.alarm_file import load_alarms
from gateway.config.site_file import load_site

ROOT = Path(__file__).resolve().parents[3]
SITE = ROOT / "configs" / "sites" / "bench4.yaml"


def test_the_keys_are_those_that_the_readers_find():
    site, text = load_site(SITE), SITE.read_text()
    assert list(keys_under(text, "devices")) == list(site.devices)
    terminals = [t.id for t in site.sops[0].sop.terminals]
    assert list(keys_under(text, "sops", "*", "terminals")) == terminals
    alarms = ROOT / "configs" / "alarms.yaml"
    codes = [rule.code for rule in load_alarms(alarms)]
    assert list(keys_under(alarms.read_text(), "alarms")) == codes


@pytest.mark.parametrize(
    "text", ["", "devices: {a: 1}", "x:\n  devices:\n    a: 1", "devices:\n- a: 1", "\t\x00: :"]
)
def test_what_is_laid_out_otherwise_is_not_completed(text):
    assert list(keys_under(text, "devices")) == []


def completed(words, site):
    shell = {
        **os.environ,
        "_SOPGW_COMPLETE": "bash_complete",
        "COMP_WORDS": f"sopgw {words}",
        "COMP_CWORD": str(len(f"sopgw {words}".split()) - (not words.endswith(" "))),
        "SOPGW_CONFIG": str(site),
    }
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from gateway.__main__ import main\n"
        "main([])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=shell
    )
    loaded = {name.split(".")[0] for name in run.stderr.split()}
    assert loaded & {"pydantic", "ruamel", "asyncio", "cryptography"} == set()
    return [line.removeprefix("plain,") for line in run.stdout.split()]


@pytest.mark.parametrize(
    "ledger",
    [
        "ledger: {origin: x, dir: 'state/ledger'}",
        "ledger:  # w\n\n  origin: x\n  dir: state/ledger # here",
    ],
)
def test_names_of_the_site_are_completed(ledger, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(SITE.read_text().split("\nledger:")[0] + f"\n{ledger}\n")
    plans = tmp_path / "state" / "plans"
    plans.mkdir(parents=True)
    (plans / "p-AAAA.json").touch()
    assert completed("point get m", site) == ["m1", "m2", "m3", "m4"]
    assert completed("test step T", site) == ["T1", "T2", "T3", "T4"]
    assert completed("apply p-", site) == ["p-AAAA"]
    assert completed("alarm ack a-12", site)[:2] == ["A-120", "A-121"]
    assert completed("check signs st", tmp_path / "none.yaml") == []
