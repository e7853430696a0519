"""The command line: what scripts rely on, exit codes, JSON on success and failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ledger.audit import receipt as receipts
from ledger.cli import COMMANDS, sopledger
from ledger.cli.output import run
from ledger.log import canonical, note, proof, segment

ORIGIN = "bench4.example/SOP-1"


class Shell:
    """Runs commands and keeps what they printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        code = run(sopledger, [str(a) for a in arguments])
        self.out, self.err = self.capfd.readouterr()
        return code

    def json(self, *arguments: object) -> dict[str, Any]:
        code = self(*arguments, "--json")
        document: dict[str, Any] = json.loads(self.out)
        assert self.out.count("\n") == 1, "one object, nothing else on stdout"
        assert document["schema"].startswith("sopledger/v1/")
        assert document["exit_code"] == code
        assert document["ok"] is (code == 0)
        assert set(document) == {"schema", "ok", "exit_code", "data", "warnings", "errors"}
        for error in document["errors"]:
            assert set(error) == {"code", "message", "help"}
        return document


@pytest.fixture
def sh(capfd: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capfd)


@pytest.fixture
def made(sh: Shell, tmp_path: Path) -> Path:
    """A ledger of 40 entries, and its verifier key beside it."""
    directory = tmp_path / "ledger"
    assert sh("init", directory, "--origin", ORIGIN) == 0
    lines = [
        json.dumps({"kind": "reading", "n": n, "utc_us": 1_767_319_200_000_000 + n})
        for n in range(40)
    ]
    (tmp_path / "e.jsonl").write_text("\n".join(lines) + "\n")
    assert sh("append", directory, "--jsonl", tmp_path / "e.jsonl") == 0
    assert sh("key", "show", directory) == 0
    (tmp_path / "ledger.vkey").write_text(sh.out.splitlines()[-1] + "\n")
    return directory


def test_the_arguments_scripts_rely_on(sh: Shell, made: Path, tmp_path: Path) -> None:
    vkey = tmp_path / "ledger.vkey"
    assert note.parse_vkey(vkey.read_text()).name == ORIGIN
    assert sh("verify", made, "--key", vkey) == 0
    assert sh.out.splitlines()[-1] == "no errors were found"
    assert "Checked" in sh.out
    assert "Not checked" in sh.out
    assert sh("log", made, "--last", 2) == 0
    assert [line.split()[0] for line in sh.out.splitlines()] == ["38", "39"]
    until = "2026-01-02T02:00:00.000010Z"
    assert sh("log", made, "--kind", "reading", "--until", until, "--last", 2) == 0
    assert [line.split()[0] for line in sh.out.splitlines()] == ["8", "9"]
    assert sh("show", made, 7) == 0
    assert json.loads(sh.out)["n"] == 7
    assert sh("prove", made, 7, "-o", tmp_path / "7.tlog-proof") == 0
    parsed = proof.parse((tmp_path / "7.tlog-proof").read_bytes())
    leaf = b'{"kind":"reading","n":7,"utc_us":1767319200000007}'
    proof.verify(parsed, leaf, [note.parse_vkey(vkey.read_text())])
    assert sh("checkpoint", made) == 0
    assert sh.out.startswith(f"{ORIGIN}\n40\n")
    assert sh("stats", made) == 0


def test_a_key_file_inside_the_ledger_is_not_in_the_way(
    sh: Shell, made: Path, tmp_path: Path
) -> None:
    assert (made / "ledger.key").exists()
    assert sh("key", "show", made) == 0
    assert "NOT PROTECTED" in sh.out
    (made / "ledger.key").write_bytes(b"\0garbage")
    assert sh("verify", made, "--key", tmp_path / "ledger.vkey") == 0
    (made / "ledger.key").unlink()
    assert sh("verify", made, "--key", tmp_path / "ledger.vkey") == 0
    assert sh("key", "show", made) == 0
    assert sh.out.splitlines()[-1] + "\n" == (tmp_path / "ledger.vkey").read_text()


def test_a_protected_key(sh: Shell, tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("a long sentence\n")
    directory = tmp_path / "ledger"
    assert sh("init", directory, "--origin", ORIGIN, "--passphrase-file", tmp_path / "pass") == 0
    assert "NOT PROTECTED" not in sh.out + sh.err
    (tmp_path / "e").write_text('{"a":1}\n')
    assert sh("append", directory, "--jsonl", tmp_path / "e") == 3
    assert "passphrase" in sh.err
    assert (
        sh("append", directory, "--jsonl", tmp_path / "e", "--passphrase-file", tmp_path / "pass")
        == 0
    )


def test_any_changed_byte_ends_with_8_and_its_place(sh: Shell, made: Path, tmp_path: Path) -> None:
    path = segment.segments(made)[0]
    clean = path.read_bytes()
    data = bytearray(clean)
    data[clean.index(b'"n":23') + 4] ^= 1
    path.write_bytes(data)
    assert sh("verify", made, "--key", tmp_path / "ledger.vkey") == 8
    assert "entry 23" in sh.out.splitlines()[-1]
    assert "entry 23" in sh.err
    document = sh.json("verify", made, "--key", tmp_path / "ledger.vkey")
    assert document["exit_code"] == 8
    assert document["data"]["faults"][0]["index"] == 23


def test_json_of_every_reading_command(sh: Shell, made: Path, tmp_path: Path) -> None:
    vkey = tmp_path / "ledger.vkey"
    assert sh.json("verify", made, "--key", vkey)["data"]["size"] == 40
    assert len(sh.json("log", made, "--count", 3)["data"]["entries"]) == 3
    assert sh.json("log", made, "--kind", "nothing")["data"]["entries"] == []
    assert sh.json("show", made, 3)["data"]["entry"]["n"] == 3
    assert sh.json("checkpoint", made)["data"]["size"] == 40
    assert sh.json("stats", made)["data"]["size"] == 40
    assert sh.json("key", "show", made)["data"]["origin"] == ORIGIN
    assert "proof" in sh.json("prove", made, 0, "-o", "-")["data"]


def test_failures_have_their_exit_codes(sh: Shell, made: Path, tmp_path: Path) -> None:
    vkey = tmp_path / "ledger.vkey"
    nothing = tmp_path / "nothing"
    assert sh.json("verify")["exit_code"] == 2
    assert sh.json("nonsense")["exit_code"] == 2
    assert sh.json("verify", made)["exit_code"] == 2
    assert sh.json("verify", made, "--key", nothing)["exit_code"] == 2
    (tmp_path / "bad").write_text("no key here")
    assert sh.json("verify", made, "--key", tmp_path / "bad")["exit_code"] == 3
    (tmp_path / "bad").write_text("a+b+c")
    assert sh.json("verify", made, "--key", tmp_path / "bad")["exit_code"] == 3
    assert sh.json("verify", nothing, "--key", vkey)["exit_code"] == 3
    assert sh.json("init", made, "--origin", ORIGIN)["exit_code"] == 5
    assert sh.json("init", nothing, "--origin", "two words")["exit_code"] == 2
    assert sh.json("show", made, 99)["exit_code"] == 3
    assert sh.json("show", made, -1)["exit_code"] == 2
    assert sh.json("prove", made, 40, "-o", "-")["exit_code"] == 3
    assert sh.json("log", nothing)["exit_code"] == 3
    assert sh.json("append", made, "--jsonl", nothing)["exit_code"] == 3


def test_bad_lines_are_all_named_and_nothing_is_written(
    sh: Shell, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad").write_text('{"a":1}\n{"a":1.5}\n[1]\n{"b":9007199254740992}\nnot json\n')
    document = sh.json("append", made, "--jsonl", tmp_path / "bad")
    assert document["exit_code"] == 3
    assert [e["message"].split(":")[1] for e in document["errors"]] == ["2", "3", "4", "5"]
    assert sh.json("stats", made)["data"]["size"] == 40


def test_appending_beside_another_writer_is_refused(sh: Shell, made: Path, tmp_path: Path) -> None:
    from ledger.log.writer import take_lock

    lock = take_lock(made)
    assert sh("append", made, "--jsonl", tmp_path / "e.jsonl") == 10
    __import__("os").close(lock)
    assert sh("append", made, "--jsonl", tmp_path / "e.jsonl") == 0


def test_every_command_shows_two_examples(sh: Shell) -> None:
    def pages(prefix: list[str]) -> list[list[str]]:
        assert sh(*prefix, "--help") == 0
        assert "sopledger" in sh.out.split("Examples", 1)[-1]
        if "Commands:" not in sh.out:
            return [prefix]
        names = [
            line.split()[0]
            for line in sh.out.split("Commands:")[1].split("\n\n")[0].splitlines()[1:]
        ]
        return [page for name in names for page in pages([*prefix, name])]

    found = [page for name in COMMANDS if name != "settle" for page in pages([name])]
    for page in found:
        sh(*page, "--help")
        assert sh.out.split("Examples:")[1].count("sopledger") >= 2, page
        assert "--json" in sh.out


def test_receipt_verify(sh: Shell, tmp_path: Path, day: Any, write: Any, signer: Any) -> None:
    made = receipts.build(write(day.entries), "A-1")
    (tmp_path / "vkey").write_text(signer.vkey)
    file = tmp_path / "A-1.json"
    file.write_text(json.dumps(made))
    assert sh("receipt", "verify", file, "--key", tmp_path / "vkey") == 0
    assert sh.out.splitlines()[-1] == "no errors were found"
    assert (
        sh.json("receipt", "verify", file, "--key", tmp_path / "vkey")["data"]["trade_id"] == "A-1"
    )
    file.write_text(file.read_text().replace('"delivered_wh": 1', '"delivered_wh": 2', 1))
    document = sh.json("receipt", "verify", file, "--key", tmp_path / "vkey")
    assert document["exit_code"] == 8
    assert document["data"]["faults"][0]["place"].startswith("intervals[0]")
    assert sh("receipt", "verify", tmp_path / "none", "--key", tmp_path / "vkey") == 3


def test_a_bug_is_exit_11(sh: Shell, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.cli import read

    monkeypatch.setattr(read.reader, "last_checkpoint", lambda _d: 1 / 0)
    assert sh("checkpoint", made) == 11
    assert "ZeroDivisionError" in sh.err


def test_the_program_starts_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ledger", "--help"], capture_output=True, text=True, check=True
    )
    assert "verify" in done.stdout


def test_help_does_not_import_the_heavy_parts() -> None:
    code = (
        "import sys; from ledger.cli import sopledger; from ledger.cli.output import run\n"
        "run(sopledger, ['--help']); bad = {'cryptography', 'aiohttp', 'apsw', 'rich', 'numpy'}\n"
        "sys.exit(bool(bad & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_witness_served_and_asked(sh: Shell, made: Path, tmp_path: Path) -> None:
    """The whole round as an operator does it, with both kinds of keys."""
    vkeys = []
    for name, more in (("w1", []), ("w2", ["--post-quantum"])):
        assert sh("witness", "keygen", tmp_path / name, "--name", "w.example/1", *more) == 0
        vkeys.append(sh.out.splitlines()[-1])
    assert sh("witness", "keygen", tmp_path / "w1", "--name", "w.example/1") == 5
    command = [
        sys.executable, "-m", "ledger", "witness", "serve", str(tmp_path / "state"), "--name", "w.example/1",
        "--key", str(tmp_path / "w1"), "--key", str(tmp_path / "w2"), "--logs", str(tmp_path / "ledger.vkey"),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        log = (tmp_path / "ledger.vkey").read_text().strip()
        policy = tmp_path / "policy"
        policy.write_text(
            f"log {log}\nwitness one {vkeys[0]} {url}\nwitness pq {vkeys[1]} {url}\n"
            "group both all one pq\nquorum both\n"
        )
        assert sh.json("stats", made, "--policy", policy)["data"]["anchored"] is None
        assert sh("stats", made) == 0
        assert "NOT ANCHORED" in sh.out
        assert sh.json("witness", "submit", made, "--policy", policy)["data"]["refused"] == []
        found = sh.json("verify", made, "--key", tmp_path / "ledger.vkey", "--policy", policy)
        assert found["data"]["anchored"]["size"] == 40
        server.terminate()
        assert server.wait() == 0
    assert sh.json("witness", "submit", made, "--policy", policy)["exit_code"] == 9
    assert sh.json("witness", "submit", made)["exit_code"] == 2


def test_after_pruning_a_ledger_still_verifies_and_its_audit_says_what_went(
    sh: Shell, make: Any, day: Any, signer: Any, tmp_path: Path
) -> None:
    (tmp_path / "vkey").write_text(signer.vkey)
    ledger = make(*[[canonical.encode(e)] for e in day.entries], segment_bytes=1_000)
    out, key = tmp_path / "out", ("--key", tmp_path / "vkey")
    assert sh("rebuild", ledger) == 0
    assert sh("export", ledger, "--tiles", out) == 0
    prune = ("prune", ledger, "--export", out, "--kind", "reading", "--before", 25, "--yes")
    removed = sh.json(*prune)["data"]["removed"]
    assert removed > 5
    assert sh.json("verify", ledger, *key)["data"]["removed"] == removed
    found = sh.json("audit", ledger, *key)
    assert found["exit_code"] == 0
    assert f"bodies of {removed} entries" in found["data"]["not_checked"][0]
    assert sh("rebuild", ledger) == 0
    assert sh("verify", ledger, *key) == 0


def test_bundles_and_pruning(sh: Shell, made: Path, tmp_path: Path) -> None:
    vkey, tar, out = tmp_path / "ledger.vkey", tmp_path / "b.tar", tmp_path / "out"
    assert sh("export", made) == 2
    assert sh("export", made, "--bundle", tar, "--from", 5, "--to", 9) == 0
    assert sh.json("bundle", "verify", tar, "--key", vkey)["data"]["to"] == 9
    tar.write_bytes(tar.read_bytes().replace(b'"n":7', b'"n":8'))
    assert sh.json("bundle", "verify", tar, "--key", vkey)["exit_code"] == 8
    assert sh("export", made, "--bundle", tar, "--to", 99) == 3
    assert sh.json("export", made, "--tiles", out)["data"]["size"] == 40
    prune = ["prune", made, "--export", out, "--kind", "reading", "--before", 20]
    assert sh.json(*prune)["exit_code"] == 6
    assert sh.json(*prune, "--yes")["data"]["removed"] == 0, "the last segment stays whole"
    assert sh("verify", made, "--key", vkey) == 0
    assert sh("rebuild", made) == 0


def test_searching_with_and_without_the_index(
    sh: Shell, tmp_path: Path, day: Any, write: Any
) -> None:
    directory = write(day.entries)
    searches = [
        ["--trade", "A-2"], ["--device", "m2", "--kind", "reading"], ["--terminal", "T3", "--count", "2"],
        ["--since", "2026-01-02T02:10Z", "--until", "2026-01-02T02:12Z"], ["--trade", "A-1", "--from", "20"],
    ]  # fmt: skip
    plain = [sh.json("log", directory, *s)["data"]["entries"] for s in searches]
    assert all(plain)
    assert {e["entry"]["kind"] for e in plain[0]} == {"trade.accepted", "plan", "delivery"}
    assert sh("rebuild", directory) == 0
    assert [sh.json("log", directory, *s)["data"]["entries"] for s in searches] == plain
    assert sh("log", directory, "--since", "yesterday") == 2


def test_verify_remembers_and_resumes(sh: Shell, made: Path, tmp_path: Path) -> None:
    vkey, memory = tmp_path / "ledger.vkey", tmp_path / "seen.checkpoint"
    verify = ["verify", made, "--key", vkey, "--remember", memory]
    assert sh("verify", made, "--key", vkey, "--resume") == 2
    assert sh(*verify) == 0
    assert memory.read_text().startswith(f"{ORIGIN}\n40\n")
    older = {p: p.read_bytes() for p in segment.segments(made)}
    assert sh("append", made, "--jsonl", tmp_path / "e.jsonl") == 0
    assert sh(*verify, "--resume") == 0
    assert "verified earlier" in sh.out
    assert memory.read_text().startswith(f"{ORIGIN}\n80\n")
    for path, data in older.items():
        path.write_bytes(data)
    assert sh("verify", made, "--key", vkey) == 0, "alone, a shortened ledger looks whole"
    assert sh(*verify) == 8
    assert "rolled back" in sh.err
    assert sh(*verify) == 8, "and it is not forgotten"
    memory.write_text("spoiled")
    assert sh(*verify) == 3


def test_verify_judges_kept_evidence(sh: Shell, made: Path, tmp_path: Path) -> None:
    from ledger.log import anchor, reader

    path = anchor.keep(made, reader.last_checkpoint(made))
    assert sh("verify", made, "--key", tmp_path / "ledger.vkey") == 0
    path.write_bytes(path.read_bytes().replace(b"\n40\n", b"\n41\n"))
    assert sh("verify", made, "--key", tmp_path / "ledger.vkey") == 8
    assert "evidence/" in sh.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_rebuilds_in_the_services_ledger_is_the_services(sh: Shell, made: Path) -> None:
    with tempfile.TemporaryDirectory() as reachable:
        Path(reachable).chmod(0o755)
        theirs = Path(reachable) / "ledger"
        shutil.copytree(made, theirs)
        for path in (theirs, *theirs.rglob("*")):
            os.chown(path, 65_534, 65_534)
        assert sh("rebuild", theirs) == 0
        assert (theirs / "index.sqlite").exists()
        assert {path.stat().st_uid for path in theirs.rglob("*")} == {65_534}
