"""The whole way by command line: keys, a node process, a round from joining to settlement."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from ledger.cli import sopledger
from ledger.cli.node import read_config
from ledger.cli.output import Failure
from ledger.log.writer import LedgerFull, LedgerWriter


def run(*arguments):
    result = CliRunner().invoke(sopledger, [*map(str, arguments), "--json"], standalone_mode=False)
    assert result.exception is None, result.output
    document = json.loads(result.stdout)
    return document["exit_code"], document


class NodeProcess:
    """A real ``sopledger node run``; its stderr is read until the door's address comes."""

    def __init__(self, config, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ledger", "node", "run", "-c", str(config), *map(str, options)],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.height = None
        self.url = None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            found = re.search(r"at (http://\S+) height (\d+)", line)
            if found:
                self.url, self.height = found[1], int(found[2])
                break
        assert self.url, "".join(seen)
        self._drain = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._drain.start()

    def stop(self, how=signal.SIGINT):
        self.process.send_signal(how)
        self.process.wait(60)
        self._drain.join(60)
        self.process.stderr.close()


@pytest.fixture
def market(tmp_path):
    """Keys and a node file for a lone gateway with the embedded order."""
    public = {}
    for name in ("op", "gw", "n1", "region-a", "region-b"):
        code, answer = run("node", "keygen", tmp_path / f"{name}.key", "--name", name)
        assert code == 0
        public[name] = answer["data"]["public"]
    code, _ = run("init", tmp_path / "ledger", "--origin", "n1.example/market")
    assert code == 0
    config = tmp_path / "node.yaml"
    config.write_text(
        f"market: test\nnode: n1\nkey: n1.key\n"
        f"ledger: {{dir: ledger, origin: n1.example/market, key: ledger/ledger.key}}\n"
        f"operator: {{id: op, key: {public['op']}}}\n"
        f"nodes: {{n1: {public['n1']}}}\nordering: embedded\nlisten: 127.0.0.1:0\n"
        "delivery: {site: bench4, sop: SOP-1, domains: {T1: region-a, T2: region-b}}\n"
    )
    return tmp_path, public, config


START_MS = 1_767_319_200_000  # 2026-01-02T02:00Z


def node_at(config, minutes_before):
    """A node whose time stands still at so many minutes before the interval."""
    epoch_us = 1000 * (START_MS - round(60_000 * minutes_before))
    timebase = config.parent / "timebase.json"
    timebase.write_text(json.dumps({"epoch_ns": 0, "factor": 0, "utc_epoch_us": epoch_us}))
    return NodeProcess(config, "--timebase", timebase)


def test_a_round_by_command_line_survives_kill_9(market):
    """Killed in every phase; its time stands still, so that no phase passes on a slow machine."""
    folder, public, config = market
    node = node_at(config, 10)
    try:
        by_op = ["--party", "op", "--key", folder / "op.key", "--node", node.url]
        join = ["round", "join", "gw", "--public", public["gw"], "--role", "gateway", *by_op]
        assert run(*join)[0] == 0
        for name, terminal in (("region-a", "T1"), ("region-b", "T2")):
            code, _ = run(
                "round", "join", name, "--public", public[name], "--role", "region",
                "--terminal", terminal, "--deposit", 1_000_000, *by_op,
            )  # fmt: skip
            assert code == 0
        document = {
            "contract": "hco-1",
            "interval": {"start": "2026-01-02T02:00Z", "end": "2026-01-02T02:15Z"},
            "quantum_w": 36_000,
            "terminals": [
                {"id": t, "s_va": 250_000, "k_min": -6, "k_max": 6} for t in ("T1", "T2")
            ],
            "k_dc": 6,
        }
        file = folder / "round.json"
        file.write_text(json.dumps(document))
        assert run("round", "open", "R1", file, "--clock", "300,240,180", *by_op)[0] == 0
        for name, slope in (("region-a", 50_000), ("region-b", 20_000)):
            offers = folder / f"{name}.json"
            offers.write_text(json.dumps({str(k): slope * k for k in range(-2, 3)}))
            me = ["--party", name, "--key", folder / f"{name}.key", "--node", node.url]
            assert run("round", "commit", "R1", offers, *me)[0] == 0
        node.stop(signal.SIGKILL)
        node = node_at(config, 4.5)
        assert node.height >= 6
        url = ["--node", node.url]
        opened = {}
        for name in ("region-a", "region-b"):
            opened[name] = json.loads((folder / f"{name}.R1.sealed").read_text())
            me = ["--party", name, "--key", folder / f"{name}.key", *url]
            assert run("round", "reveal", "R1", folder / f"{name}.R1.sealed", *me)[0] == 0
        late = ["--party", "region-a", "--key", folder / "region-a.key", *url]
        code, answer = run("round", "commit", "R1", folder / "region-a.json", *late)
        assert code == 5
        assert "gate is closed" in answer["errors"][0]["message"]
        assert json.loads((folder / "region-a.R1.sealed").read_text()) == opened["region-a"]
        assert list(folder.glob("*.sealed.*")) == []
        node.stop(signal.SIGKILL)
        node = node_at(config, 2)
        url = ["--node", node.url]
        until = time.monotonic() + 60
        while run("round", "ls", *url)[1]["data"] != {"R1": "cleared"}:
            assert time.monotonic() < until
            time.sleep(0.05)
        code, shown = run("round", "show", "R1", *url)
        assert shown["data"]["outcome"]["levels"] == {"T1": 2, "T2": -2}
        code, trades = run("round", "trades", "R1", "--out", folder / "trades", *url)
        assert code == 0
        (envelope,) = trades["data"]["envelopes"]
        assert json.loads((folder / "trades/R1-1.dsse.json").read_text()) == envelope
        report = folder / "delivery.json"
        wh = shown["data"]["outcome"]["trades"][0]["wh"]
        name = shown["data"]["outcome"]["trades"][0]["id"]
        report.write_text(json.dumps([{"trade_id": name, "delivered_wh": wh}]))
        by_gw = ["--party", "gw", "--key", folder / "gw.key", *url]
        code, answer = run("round", "deliver", "R1", report, *by_gw)
        assert code == 5
        assert "the interval has not ended" in answer["errors"][0]["message"]
        node.stop(signal.SIGKILL)
        node = node_at(config, -20)
        by_gw[-1] = url[-1] = node.url
        assert run("round", "deliver", "R1", report, *by_gw)[0] == 0
        code, answer = run("round", "deliver", "R1", report, *by_gw)
        assert code == 5
        by_op[-1] = node.url
        buyer = json.load(urlopen(f"{node.url}/v1/parties/region-a", timeout=10))
        assert buyer["balance"] < 0
        paid = ["round", "payment", "region-a", "--amount", -buyer["balance"], *by_op]
        assert run(*paid)[0] == 0
        code, answer = run(*paid)
        assert code == 5
        assert "owes nothing" in answer["errors"][0]["message"]
        me = ["--party", "region-a", "--key", folder / "region-a.key", *url]
        assert run("round", "leave", *me)[0] == 0
        out = ["round", "deposit", "region-a", "--amount", -buyer["deposit"], *by_op]
        assert run(*out)[0] == 0
        code, status = run("node", "status", *url)
        assert (code, status["data"]["money_sum"]) == (0, 0)
    finally:
        node.stop()
    key = folder / "ledger.vkey"
    code, shown = run("key", "show", folder / "ledger")
    key.write_text(CliRunner().invoke(sopledger, ["key", "show", str(folder / "ledger")], standalone_mode=False).stdout.splitlines()[-1])  # fmt: skip
    assert run("verify", folder / "ledger", "--key", key)[0] == 0


def test_a_node_whose_disk_is_full_says_so(market, monkeypatch):
    """It refuses; it is no defect of the program."""

    def full(*_, **__):
        raise LedgerFull("no room on disk")

    _, _, config = market
    monkeypatch.setattr(LedgerWriter, "open", full)
    code, answer = run("node", "run", "-c", config)
    assert (code, answer["errors"][0]["message"]) == (5, "no room on disk")


def test_nobody_at_the_door_is_exit_4():
    assert run("node", "status", "--node", "http://127.0.0.1:9")[0] == 4


def test_every_mistake_of_a_node_file_comes_at_once(tmp_path):
    file = tmp_path / "node.yaml"
    file.write_text(
        "market: test\nnode: n9\nkey: k\nnodes: {n1: zz, n2: yy}\nfaulty: 3\ncolour: 1\n"
    )
    with pytest.raises(Failure) as failed:
        read_config(file)
    text = str(failed.value)
    for part in ("lacks 'ledger'", "lacks 'operator'", "unknown key 'colour'", "$.nodes.n1", "none of the nodes", "can not outvote", "$.ordering"):  # fmt: skip
        assert part in text
    file.write_text("a: [")
    with pytest.raises(Failure):
        read_config(file)


def test_the_service_manager_hears_that_the_node_is_up(market, tmp_path, monkeypatch):
    import socket

    _, _, config = market
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        node = NodeProcess(config)
        try:
            manager.settimeout(60)
            said = manager.recv(1000).decode().splitlines()
        finally:
            node.stop()
    assert said == ["READY=1", f"STATUS=height 0 at port {node.url.rpartition(':')[2]}"]


def test_a_seal_whose_fate_is_unknown_keeps_its_salt(market):
    """Nobody answers: the earlier seal stays, the new one's salt lies beside it."""
    folder, _, _ = market
    offers = folder / "offers.json"
    offers.write_text('{"0": 0, "1": 5}')
    before = json.dumps({"round": "R1", "party": "region-a", "salt": "5a" * 32, "offers": {}})
    (folder / "offers.R1.sealed").write_text(before)
    me = ["--party", "region-a", "--key", folder / "region-a.key"]
    assert run("round", "commit", "R1", offers, *me, "--node", "http://127.0.0.1:9")[0] == 4
    (kept,) = folder.glob("offers.R1.sealed.*")
    assert set(json.loads(kept.read_text())) == {"round", "party", "salt", "offers"}
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (folder / "offers.R1.sealed").read_text() == before
