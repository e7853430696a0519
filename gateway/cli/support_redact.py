"""Takes secrets out of text, and says what it took.

Two nets, one behind the other: what looks like a secret (by its key, by its form), and every
value that lies in the site's own secret files, wherever it turns up. Light; no I/O but reading
those files.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

GONE = "<redacted>"
WORDS = r"pass(?:word|phrase|wd)?|secret|token|api[_-]?key|private[_-]?key|credential|authorization"
SECRET_CHARACTERS_MIN = 6  # shorter values would blank out half of every text
SECRET_FILE_BYTES_MAX = 64 << 10

_PEM = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S
)
_NAMED = re.compile(
    rf"""(?ix) (["']?[\w.-]*(?:{WORDS})[\w.-]*["']? \s*[:=]\s*)   # a telling name and its sign
         (?! \s*[{{\[] | (?:null|none|true|false)\b )
         ( "(?:[^"\\\n]|\\.)*" | '[^'\n]*' | [^\s,}}\]\#"'][^\s,}}\]\#]* )"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/._~=-]{8,}")
_USERINFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:]+:[^\s/@]+@")
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_ADDRESS_6 = re.compile(  # times of day and MAC addresses look like it too, and are none
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})"
    r"(?:%[\w.-]+)?(?![\w:])"
)
_KEPT_ADDRESSES = ("127.0.0.1", "0.0.0.0", "::1", "::")  # noqa: S104 - told apart, never bound


class Redactor:
    """Cleans texts of one bundle; ``counts`` says what was taken out."""

    def __init__(self, secrets: Iterable[str] = (), *, addresses: bool = False) -> None:
        """Know these secret values; with ``addresses`` hide IP addresses too."""
        self._secrets = sorted(set(secrets), key=len, reverse=True)
        self._addresses = addresses
        self._hosts: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def clean(self, text: str) -> str:
        """Return the text without secrets; its lines keep their numbers."""
        text = self._replace(_PEM, text, "private keys", self._blank_lines)
        for secret in self._secrets:
            found = text.count(secret)
            if found:
                self.counts["values of secret files"] += found
                text = text.replace(secret, GONE)
        text = self._replace(_USERINFO, text, "passwords in addresses", lambda m: f"{m[1]}{GONE}@")
        text = self._replace(_BEARER, text, "authorizations", lambda m: f"{m[1]} {GONE}")
        text = self._replace(_NAMED, text, "values of telling names", self._named)
        if self._addresses:
            text = self._replace(_ADDRESS_6, text, "addresses", self._host_6)
            text = self._replace(_ADDRESS, text, "addresses", self._host)
        return text

    def leaks(self, data: bytes) -> list[str]:
        """Say which known secrets still stand in what would be written; empty is good."""
        return [f"a value of {len(s)} characters" for s in self._secrets if s.encode() in data]

    def _replace(self, pattern: re.Pattern[str], text: str, what: str, by: object) -> str:
        def one(match: re.Match[str]) -> str:
            assert callable(by)
            new = str(by(match))
            if new != match[0]:
                self.counts[what] += 1
            return new

        return pattern.sub(one, text)

    @staticmethod
    def _named(match: re.Match[str]) -> str:
        """Keep the quotes, so that JSON stays JSON."""
        quote = match[2][0] if match[2][0] in "\"'" else ""
        return f"{match[1]}{quote}{GONE}{quote}"

    @staticmethod
    def _blank_lines(match: re.Match[str]) -> str:
        return GONE + "\n" * match[0].count("\n")

    def _host_6(self, match: re.Match[str]) -> str:
        try:
            ipaddress.IPv6Address(match[0])
        except ValueError:
            return match[0]
        return self._host(match)

    def _host(self, match: re.Match[str]) -> str:
        if match[0] in _KEPT_ADDRESSES:
            return match[0]
        return self._hosts.setdefault(match[0], f"<host-{len(self._hosts) + 1}>")


def values_in(paths: Iterable[Path]) -> set[str]:
    """Return every value that lies in secret files: whole, line by line, and as BASE64 or hex."""
    found: set[str] = set()
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue  # a secret that this user cannot read can be in nothing this user reads
        if len(data) > SECRET_FILE_BYTES_MAX:
            continue
        raw = data.strip()
        pieces = {raw, *(line.strip() for line in raw.splitlines())}
        pieces = {p for p in pieces if not p.startswith((b"-----", b"#"))}
        for piece in pieces:
            forms = [piece.decode(errors="ignore"), base64.b64encode(piece).decode(), piece.hex()]
            found |= {f for f in forms if len(f) >= SECRET_CHARACTERS_MIN}
    return found
