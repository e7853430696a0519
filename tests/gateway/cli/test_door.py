"""The light way to a running service: the socket's place, one question, one answer."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gateway.app import control_path
from gateway.cli import door
from gateway.config.problem import ConfigFileError
from gateway.config.site_file import load_site

BENCH = Path(__file__).resolve().parents[3] / "configs" / "sites" / "bench4.yaml"
FLOW = "ledger: {dir: state/ledger}\n"
BLOCK = "ledger:\n  # where\n  dir: 'state/ledger'   # here\n  origin: x\n"


@pytest.mark.parametrize("text", [FLOW, BLOCK, "sops: {a: 1}\n" + FLOW])
def test_the_socket_lies_beside_the_ledger_whatever_else_the_file_says(text, tmp_path):
    (tmp_path / "site.yaml").write_text(text)
    assert door.door_of(tmp_path / "site.yaml") == tmp_path / "state" / door.SOCKET


def test_it_is_the_place_where_the_service_listens():
    assert (
        door.door_of(BENCH)
        == door.door_of(BENCH, load_site(BENCH))
        == control_path(load_site(BENCH))
    )


@pytest.mark.parametrize("text", ["site: {id: x}\n", "a: [\n", "ledger: {dir: ''}\n", ""])
def test_a_file_that_names_no_ledger_is_told_all_its_mistakes(text, tmp_path):
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ConfigFileError):
        door.door_of(tmp_path / "site.yaml")


def answered_with(path, pieces):
    """Serve one connection at ``path``: read a line, send the pieces, close."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    asked = []

    server.settimeout(60)  # who should ask may have failed: the test says so then

    def serve():
        with server, contextlib.suppress(OSError):  # who asked may have had enough, too
            peer, _ = server.accept()
            with peer:
                asked.append(peer.makefile("rb").readline())
                for piece in pieces:
                    peer.sendall(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    return asked, thread


def test_an_answer_may_come_in_pieces(tmp_path):
    asked, thread = answered_with(tmp_path / "s", [b'{"ok": tr', b'ue, "a": "', b'\xc3\xa4"}\n'])
    assert door.ask_at(tmp_path / "s", {"verb": "status"}) == {"ok": True, "a": "ä"}
    thread.join()
    assert json.loads(asked[0]) == {"verb": "status"}


@pytest.mark.parametrize(
    "pieces", [[], [b'{"ok": true'], [b"[]\n"], [b"x\n"], [b"x" * 70_000] * 16]
)
def test_what_is_no_answer_is_an_error_that_commands_expect(pieces, tmp_path):
    _, thread = answered_with(tmp_path / "s", pieces)
    with pytest.raises((OSError, ValueError)):
        door.ask_at(tmp_path / "s", {"verb": "status"})
    thread.join()


def test_a_service_that_hangs_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(door, "ANSWER_S_MAX", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        with pytest.raises(TimeoutError):
            door.ask_at(tmp_path / "s", {"verb": "status"})


@pytest.mark.parametrize("words", [["status"], ["mode", "show"], ["stop"], ["alarm", "ls"]])
def test_looking_and_stopping_build_no_site(words, tmp_path):
    """What waits for nothing but the answer imports no schema, no event loop, no device."""
    (tmp_path / "site.yaml").write_text(FLOW)
    (tmp_path / "state").mkdir()
    answer = {
        "ok": True, "outcome": "executed", "alarms": [],
        "status": {"mode": "on", "state": "OBSERVE", "armed": True, "reasons": []},
    }  # fmt: skip
    _, thread = answered_with(
        tmp_path / "state" / door.SOCKET, [json.dumps(answer).encode() + b"\n"]
    )
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('\\n'.join(sys.modules), file=sys.stderr))\n"
        "from gateway.__main__ import main\n"
        f"main({[*words, '--json', '-c', str(tmp_path / 'site.yaml')]!r})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    thread.join()
    loaded = run.stderr.split()
    heavy = {"pydantic", "asyncio", "cryptography", "gateway.config.site_file", "gateway.core"}
    assert heavy & set(loaded) == set(), run.stdout
    assert "gateway.cli.door" in loaded
