"""Where a site's gateway listens, and one question to it, with little but the standard library.

A look at the running service or a stop must not wait until a site file, its profiles and their
codecs are built: the one key that says where the socket lies is read by itself.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.config.site_file import Site

SOCKET = "sopgw.sock"
ANSWER_S_MAX = 5.0  # a service that answers at all does so within a scan
ANSWER_BYTES_MAX = 1 << 20  # a screen of entries is under 100 kB
_PIECE_BYTES = 65536


def door_of(config_path: Path, site: Site | None = None) -> Path:
    """Return the socket of a site: beside its ledger."""
    folder = ledger_of(config_path) if site is None else site.ledger.dir
    return folder.parent / SOCKET


def ledger_of(config_path: Path) -> Path:
    """Return the ledger's folder of a site.

    A file that is not even YAML or names no ledger raises what ``config check`` would say.
    """
    from gateway.config.yaml_reader import read_file

    document = read_file(config_path, prefix="C")
    folder = document.root.word("ledger", "dir") if document.root and not document.failed else None
    if folder:
        return config_path.parent / folder
    from gateway.config.site_file import load_site

    return load_site(config_path).ledger.dir


def ask_at(path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send one request to a running gateway; OSError or TimeoutError when none answers."""
    end_s = time.monotonic() + ANSWER_S_MAX
    answer = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.settimeout(ANSWER_S_MAX)
        door.connect(str(path))
        door.sendall(json.dumps(dict(request)).encode() + b"\n")
        while not answer.endswith(b"\n"):
            door.settimeout(max(0.001, end_s - time.monotonic()))
            piece = door.recv(_PIECE_BYTES)
            answer += piece
            if not piece or len(answer) > ANSWER_BYTES_MAX:
                raise ConnectionError("the gateway closed the connection")
    found = json.loads(answer)
    if not isinstance(found, dict):
        raise ConnectionError("not an answer")
    return found
