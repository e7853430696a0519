"""Who is inside the page: sessions that end by themselves, and tries that are counted.

Decides from values and instants alone; the caller hashes passwords and keeps the clock. After
IEC 62443-4-2 CR 1.11 (unsuccessful login attempts), CR 2.5 (session lock), CR 2.7 (concurrent
sessions).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, replace

TRIES_MAX = 5
LOCK_S = 15 * 60
IDLE_S = 15 * 60  # session lock: whoever asks for nothing so long is asked again
LIFE_S = 12 * 3600
SESSIONS_MAX = 64
LOOPBACK = frozenset({"", "127.0.0.1", "::1"})
NAMES_MAX = 1024  # strangers' names and addresses remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody inside."""

    name: str
    role: str
    since_s: float
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tries:
    count: int
    last_s: float


class Doorkeeper:
    """Sessions by the hash of their token, and tries by name and by address."""

    def __init__(self) -> None:
        """Nobody is inside."""
        self._inside: dict[bytes, Visitor] = {}
        self._tries: dict[str, _Tries] = {}

    def locked_s(self, *, name: str, address: str, now_s: float) -> float:
        """Return how long a name or an address is still locked out, 0 when it may try."""
        left = 0.0
        for key in _keys(name, address):
            tries = self._tries.get(key)
            if tries is not None and tries.count >= TRIES_MAX:
                left = max(left, tries.last_s + LOCK_S - now_s)
        return left

    def failed(self, *, name: str, address: str, now_s: float) -> bool:
        """Count a wrong try; tell whether this one locks the name or the address out."""
        locks = False
        for key in _keys(name, address):
            tries = self._tries.pop(key, None)
            if tries is None or now_s - tries.last_s > LOCK_S:
                tries = _Tries(count=0, last_s=now_s)
            tries = _Tries(count=tries.count + 1, last_s=now_s)
            self._tries[key] = tries  # newest last
            locks = locks or tries.count == TRIES_MAX
        while len(self._tries) > NAMES_MAX:
            del self._tries[next(iter(self._tries))]
        return locks

    def enter(self, *, name: str, role: str, address: str, now_s: float) -> str:
        """Let somebody in whose password was right; return the token of the session."""
        for key in _keys(name, address):
            self._tries.pop(key, None)
        token = secrets.token_urlsafe(32)
        while len(self._inside) >= SESSIONS_MAX:
            oldest = min(self._inside, key=lambda k: self._inside[k].seen_s)
            del self._inside[oldest]
        visitor = Visitor(name=name, role=role, since_s=now_s, seen_s=now_s)
        self._inside[_hash(token)] = visitor
        return token

    def who(self, token: str, *, now_s: float, touch: bool = True) -> Visitor | None:
        """Return whose session it is, None when it is nobody's or has ended."""
        key = _hash(token)
        visitor = self._inside.get(key)
        if visitor is None:
            return None
        if now_s - visitor.seen_s > IDLE_S or now_s - visitor.since_s > LIFE_S:
            del self._inside[key]
            return None
        if touch:
            self._inside[key] = replace(visitor, seen_s=now_s)
        return visitor

    def leave(self, token: str) -> Visitor | None:
        """End a session; return whose it was."""
        return self._inside.pop(_hash(token), None)

    def throw_out(self, name: str) -> int:
        """End all sessions of a person; return how many there were."""
        keys = [k for k, v in self._inside.items() if v.name == name]
        for key in keys:
            del self._inside[key]
        return len(keys)


def _keys(name: str, address: str) -> list[str]:
    """Return what tries are counted under; this machine's own address stands for a whole proxy."""
    keys = [f"name {name}"]
    if address not in LOOPBACK:
        keys.append(f"address {address}")
    return keys


def _hash(token: str) -> bytes:
    # A cookie of bytes that are no text comes with half characters in it.
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
