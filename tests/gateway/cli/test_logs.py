"""The service's log as JSON and as RFC 5424 over TLS."""

import json
import logging
import socket
import ssl
import sys
import threading

import pytest
from fakes.certificates import Authority

from gateway.cli import logs
from gateway.cli.logs import JsonFormatter, LineFormatter, SyslogFormatter, SyslogTls


def record(message, *arguments, level=logging.WARNING):
    return logging.LogRecord("gateway.runtime.loop", level, "f.py", 1, message, arguments, None)


def test_json_lines_carry_the_pairs_of_the_message():
    told = json.loads(JsonFormatter().format(record("alarm=%s active=%s x", "link_lost", True)))
    assert told["fields"] == {"alarm": "link_lost", "active": "True"}
    assert (told["level"], told["logger"]) == ("warning", "gateway.runtime.loop")
    assert told["time"].endswith("Z")


def test_a_message_cannot_forge_a_second_one():
    line = JsonFormatter().format(record('a\n{"level": "info"}'))
    assert "\n" not in line
    text = SyslogFormatter(host="edge", process_id=7).format(record("a\n<134>1 forged"))
    assert "\n" not in text
    assert text.startswith("<132>1 20")
    assert " edge sopgw 7 gateway.runtime.loop - a <134>1 forged" in text


def test_lines_for_people_cannot_be_forged_by_what_others_said():
    said = "busy\n2026-11-21 08:15:21,004 WARNING gateway.runtime.alarms all clear\x1b[2J\u2028x"
    line = LineFormatter().format(record("ledger=%s: %s", "/l", said))
    assert line.splitlines() == [line]
    assert line.endswith("busy\\u000a2026-11-21 08:15:21,004 WARNING gateway.runtime.alarms all "
                         "clear\\u001b[2J\\u2028x")  # fmt: skip
    try:
        int(said)
    except ValueError:
        wrong = logging.LogRecord("a", logging.ERROR, "f.py", 1, "x", (), sys.exc_info())
    first, *others = LineFormatter().format(wrong).splitlines()
    assert first.endswith("ERROR a x")
    assert others[0] == "  Traceback (most recent call last):"
    assert all(k.startswith("  ") for k in others)


def test_fields_are_those_of_our_own_words():
    said = "HTTP 500: alarm=A-101 active=False\x85"
    line = JsonFormatter().format(record("ledger=%s 100%% %s: %s", "/l", "https://w.example", said))
    assert line.splitlines() == [line]
    told = json.loads(line)
    assert told["fields"] == {"ledger": "/l"}
    assert told["message"].endswith(said)
    reasons = ["device watchdog acted (not armed yet)", "link lost"]
    told = json.loads(JsonFormatter().format(record("state=%s reasons=%s", "FAILSAFE", reasons)))
    assert told["fields"] == {"state": "FAILSAFE", "reasons": str(reasons)}
    assert "fields" not in json.loads(JsonFormatter().format(record(said)))
    told = json.loads(JsonFormatter().format(record("body=%s", {"a": 1})))
    assert told["fields"] == {"body": "{'a': 1}"}


class Collector:
    """A collector over TLS that keeps what it hears."""

    def __init__(self, authority, port=0):
        self.heard, self.got = [], threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.issue("collector", server=True))
        self._door = socket.create_server(("127.0.0.1", port))
        self.port = self._door.getsockname()[1]
        self._context = context
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        try:
            while True:
                plain, _ = self._door.accept()
                try:
                    with self._context.wrap_socket(plain, server_side=True) as link:
                        while data := link.recv(65536):
                            self.heard.append(data)
                            self.got.set()
                except OSError:
                    plain.close()
        except OSError:
            return

    def close(self):
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join()


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "pki")


@pytest.fixture
def collector(authority):
    made = Collector(authority)
    yield made
    made.close()


def handler_to(collector, tls):
    made = SyslogTls("127.0.0.1", collector.port, tls)
    made.setFormatter(SyslogFormatter(host="edge", process_id=1))
    return made


def test_records_reach_a_collector_counted_in_octets(collector, authority):
    handler = handler_to(collector, ssl.create_default_context(cafile=authority.path))
    handler.emit(record("one ü"))
    assert collector.got.wait(10)
    handler.close()
    size, _, text = b"".join(collector.heard).partition(b" ")
    assert int(size) == len(text)
    assert text.decode().endswith("one ü")


def test_half_a_surrogate_pair_reaches_a_collector_as_its_number(collector, authority):
    handler = handler_to(collector, ssl.create_default_context(cafile=authority.path))
    handler.handle(record("round=%s refused: %s", "r-1", json.loads('"\\ud800"')))
    assert collector.got.wait(10)
    handler.close()
    assert b"".join(collector.heard).endswith(b"round=r-1 refused: \\ud800")


def test_a_record_that_cannot_be_written_fails_on_stderr_and_not_in_the_caller(capsys):
    handler = SyslogTls("127.0.0.1", 1, ssl.create_default_context())
    handler.setFormatter(SyslogFormatter(host="edge", process_id=1))
    handler.handle(record("height=%d", "x"))
    handler.close()
    assert "height=%d" in capsys.readouterr().err


def test_a_collector_of_another_authority_hears_nothing_and_nobody_waits(
    collector, tmp_path, monkeypatch
):
    monkeypatch.setattr(logs, "QUEUE_MAX", 3)
    other = Authority(tmp_path / "other")
    handler = handler_to(collector, ssl.create_default_context(cafile=other.path))
    for _ in range(10):
        handler.emit(record("secret"))
    assert handler.dropped_count >= 5
    handler.close()
    assert collector.heard == []


def test_a_collector_that_is_back_hears_how_many_messages_were_lost(authority, monkeypatch):
    monkeypatch.setattr(logs, "QUEUE_MAX", 3)
    monkeypatch.setattr(logs, "PAUSE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    handler = SyslogTls("127.0.0.1", port, ssl.create_default_context(cafile=authority.path))
    handler.setFormatter(SyslogFormatter(host="edge", process_id=1))
    for number in range(10):
        handler.emit(record("number %d", number))
    lost_count = handler.dropped_count
    made = Collector(authority, port)
    assert made.got.wait(10)
    handler.close()
    made.close()
    told = b"".join(made.heard).decode()
    assert told.count(f"messages_lost={lost_count}") == 1
    assert told.index("messages_lost") < told.index("number 0")


def test_a_name_that_is_none_does_not_end_the_sender(monkeypatch):
    monkeypatch.setattr(logs, "PAUSE_S", 0.01)
    tried, connect = threading.Event(), SyslogTls._connect

    def trying(self):
        tried.set()
        return connect(self)

    monkeypatch.setattr(SyslogTls, "_connect", trying)
    handler = SyslogTls("logs..example", 6514, ssl.create_default_context())
    handler.setFormatter(SyslogFormatter(host="edge", process_id=1))
    handler.emit(record("one"))
    for _ in range(2):
        assert tried.wait(10)
        tried.clear()
    assert tried.wait(10)
    handler.close()
