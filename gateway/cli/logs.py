"""Where the service's log goes: lines or JSON on stderr, and RFC 5424 over TLS to a collector.

The ledger is the record; the log is for whoever looks after the machine. Nothing here waits for a
collector: what it does not take in time is dropped, counted, and told once it takes something
again. What others said stands in messages too: it can forge neither a line nor a field.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import logging.handlers
import os
import queue
import re
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

from typing_extensions import override

from gateway.model.errors import ConfigError

QUEUE_MAX = 2_000
CONNECT_S, SEND_S, PAUSE_S = 5.0, 5.0, 5.0
MESSAGE_BYTES_MAX = 8_192
FACILITY_LOCAL0 = 16
SEVERITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}
TLS_PORT = 6514
_CONVERSION = re.compile(
    r"(?:\b(?P<name>[a-z][a-z0-9_]{0,31})=)?(?P<how>%[-+ #0]*\d*(?:\.\d+)?[hlL]?[a-zA-Z%])"
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LineFormatter(logging.Formatter):
    """Lines for people; a traceback is indented, so that none of it passes for a line of ours."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return _escaped(super().formatMessage(record))

    @override
    def formatException(self, ei: Any) -> str:
        """Return a traceback."""
        return "\n".join(f"  {_escaped(k)}" for k in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line; each ``name=%s`` of the message becomes a field of its own."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        message = record.getMessage()
        body: dict[str, object] = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        fields = _fields(record)
        if fields:
            body["fields"] = fields
        if record.exc_info:
            body["exception"] = self.formatException(record.exc_info)
        return _escaped(json.dumps(body, ensure_ascii=False, sort_keys=True))


class SyslogFormatter(logging.Formatter):
    """RFC 5424 without structured data; control characters cannot forge a second message."""

    def __init__(self, *, host: str, process_id: int) -> None:
        """Name who sends."""
        super().__init__()
        self._host, self._process_id = host, process_id

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one message."""
        severity = SEVERITIES.get(record.levelno, 6)
        message = record.getMessage()
        if record.exc_info:
            message += " " + self.formatException(record.exc_info)
        text = _UNPRINTABLE.sub(" ", message)
        head = f"<{FACILITY_LOCAL0 * 8 + severity}>1 {_stamp(record)} {self._host} sopgw"
        return f"{head} {self._process_id} {_word(record.name)} - {text}"


class SyslogTls(logging.Handler):
    """Sends to a collector over TLS (RFC 5425, octet counting) from a thread of its own."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Send to ``host``; nothing is connected before the first record."""
        super().__init__()
        self._host, self._port, self._tls = host, port, tls
        self._waiting: queue.Queue[bytes | None] = queue.Queue(QUEUE_MAX)
        self.dropped_count = 0
        self._told_count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syslog", daemon=True)
        self._thread.start()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record; a full queue drops it, and a record that fails fails no caller."""
        try:
            # What others said may hold half a surrogate pair, which is no UTF-8.
            data = self.format(record).encode("utf-8", "backslashreplace")[:MESSAGE_BYTES_MAX]
        except Exception:  # noqa: BLE001 - as every handler of the library: told on stderr
            self.handleError(record)
            return
        try:
            self._waiting.put_nowait(b"%d %s" % (len(data), data))
        except queue.Full:
            self.dropped_count += 1

    @override
    def close(self) -> None:
        """Send what is queued, if it goes quickly, and end."""
        self._ended.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            self.dropped_count += 1
        self._thread.join(timeout=SEND_S)
        super().close()

    def _run(self) -> None:
        link: ssl.SSLSocket | None = None
        while (data := self._waiting.get()) is not None:
            while True:
                try:
                    link = link or self._connect()
                    self._tell_lost(link)
                    link.sendall(data)
                    break
                except (OSError, ValueError, OverflowError):  # or a name or port that is none
                    # Not through the log: it would come back here.
                    _close(link)
                    link = None
                    if self._ended.wait(PAUSE_S):
                        return
        _close(link)

    def _tell_lost(self, link: ssl.SSLSocket) -> None:
        """Say how many records were dropped since it was last said."""
        count = self.dropped_count - self._told_count
        if count:
            text, where = "messages_lost=%d", (__name__, logging.WARNING, __file__, 0)
            lost = self.format(logging.LogRecord(*where, text, (count,), None)).encode()
            link.sendall(b"%d %s" % (len(lost), lost))
            self._told_count += count

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self._host, self._port), timeout=CONNECT_S)
        try:
            link = self._tls.wrap_socket(plain, server_hostname=self._host)
        except OSError:
            plain.close()
            raise
        link.settimeout(SEND_S)
        return link


def set_up(
    *,
    verbose: int,
    json_lines: bool,
    syslog: str | None = None,
    ca_file: Path | None = None,
    certificate: Path | None = None,
    key_file: Path | None = None,
) -> None:
    """Direct the log of this process.

    Args:
        verbose: 0 warnings, 1 what happens, 2 everything.
        json_lines: JSON objects on stderr instead of lines for people.
        syslog: ``HOST[:PORT]`` of a collector that speaks RFC 5425.
        ca_file: authorities of the collector's certificate; the system's without it.
        certificate: ours, for a collector that asks.
        key_file: its key.
    """
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    root = logging.getLogger()
    root.setLevel(levels[min(verbose, 2)])
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(JsonFormatter() if json_lines else LineFormatter())
    root.addHandler(lines)
    if syslog is None:
        return
    host, _, port = syslog.partition(":")
    try:
        tls = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            tls.load_cert_chain(certificate, key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"TLS of the log collector: {error}") from None
    sender = SyslogTls(host, int(port or TLS_PORT), tls)
    sender.setFormatter(SyslogFormatter(host=_word(socket.gethostname()), process_id=os.getpid()))
    root.addHandler(sender)


def _close(link: ssl.SSLSocket | None) -> None:
    if link is not None:
        link.close()


def _fields(record: logging.LogRecord) -> dict[str, str]:
    """Return the values that stand behind a name in the message's own words, not in others'."""
    given = record.args if isinstance(record.args, tuple) else (record.args,)
    values, found = iter(given), {}
    for part in _CONVERSION.finditer(str(record.msg)) if record.args else ():
        if part["how"] == "%%":
            continue
        try:
            value = part["how"] % (next(values),)
        except (StopIteration, TypeError, ValueError):
            return {}  # a width among the values, say: whose is whose?
        if part["name"]:
            found[part["name"]] = value
    return found


def _escaped(text: str) -> str:
    """Write what ends a line or moves the cursor as its number, as JSON does."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _stamp(record: logging.LogRecord) -> str:
    at = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _word(text: str) -> str:
    """Return what a header field may hold: printable ASCII without blanks, at most 32 long."""
    return re.sub(r"[^\x21-\x7e]", "_", text)[:32] or "-"
