"""From an ``opc.tcp://`` URL with its files to a client.

``opc.tcp://host:4840/path?cert=…&key=…&server=…&trusted=…&user=operator&password_file=…``: our
certificate and key, the server's pinned certificate, the trust folder, and who we are there. A
password stands in a file of its own, never in the URL.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gateway.devices.opcua.client import OpcuaClient, Trust
from gateway.devices.opcua.process import Spare
from gateway.devices.profile import OpcuaSettings
from gateway.model.errors import ConfigError

SCHEME = "opc.tcp"
OPCUA_PORT = 4840
NEEDED = ("cert", "key", "server", "trusted")
KNOWN = frozenset({*NEEDED, "user", "password_file"})
SECURE_MODE = "SignAndEncrypt"
TIMEOUT_S_MIN = 1.0


def opcua_client_of(
    name: str, url: str, settings: OpcuaSettings, *, timeout_s: float, spare: bool = False
) -> OpcuaClient:
    """A client of the server at the URL; nothing is opened yet. Raises ConfigError.

    With ``spare`` a second child stands ready behind the one that is connected.
    """
    given = _given(url)
    return OpcuaClient(
        name=name,
        url=endpoint_of(url),
        trust=Trust(
            certificate=Path(given["cert"]),
            key=Path(given["key"]),
            pinned=Path(given["server"]),
            trusted=Path(given["trusted"]),
            policy=policy_of(settings),
        ),
        user=given.get("user", ""),
        password=_password(given.get("password_file")),
        timeout_s=max(TIMEOUT_S_MIN, timeout_s),
        spare=Spare() if spare else None,
    )


def connect_order(url: str, settings: OpcuaSettings, *, timeout_s: float) -> dict[str, Any]:
    """The order that connects a child to the server at the URL. Raises ConfigError."""
    given = _given(url)
    return {
        "op": "connect",
        "url": endpoint_of(url),
        "certificate": given["cert"],
        "key": given["key"],
        "pinned": given["server"],
        "trusted": given["trusted"],
        "policy": policy_of(settings),
        "user": given.get("user", ""),
        "password": _password(given.get("password_file")),
        "timeout_s": timeout_s,
    }


def _given(url: str) -> dict[str, str]:
    """The files and names of a URL, none missing and none unknown."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    if parts.scheme != SCHEME or not parts.hostname:
        raise ConfigError(f"{url}: write opc.tcp://host:{OPCUA_PORT}/path?cert=…")
    unknown = sorted(given.keys() - KNOWN)
    if unknown:
        raise ConfigError(f"{url}: unknown {', '.join(unknown)}; known: {', '.join(sorted(KNOWN))}")
    missing = [key for key in NEEDED if key not in given]
    if missing:
        raise ConfigError(f"{url}: add {', '.join(f'`{key}=FILE`' for key in missing)}")
    return given


def endpoint_of(url: str) -> str:
    """The URL without what is only for us."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def policy_of(settings: OpcuaSettings) -> str:
    """The first policy the profile names; anything below SignAndEncrypt is a ConfigError."""
    for text in settings.security:
        mode, _, policy = text.partition("/")
        if mode == SECURE_MODE and policy:
            return policy
    raise ConfigError(f"no {SECURE_MODE} policy among {', '.join(settings.security)}")


def _password(name: str | None) -> str:
    if name is None:
        return ""
    path = Path(name)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if mode & 0o077:
        raise ConfigError(f"{path}: others can read the password (mode {mode:04o}): chmod 600")
    return text
