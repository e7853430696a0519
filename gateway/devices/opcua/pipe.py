"""Messages between the gateway and its OPC UA child: a length, then one JSON object."""

from __future__ import annotations

import asyncio
import json
from typing import Any

MESSAGE_BYTES_MAX = 4 << 20  # a batch read of thousands of nodes fits; a flood does not


class PipeBroken(Exception):  # noqa: N818 - an event
    """The other side is gone or talks nonsense."""


def pack(message: dict[str, Any]) -> bytes:
    """One message as bytes."""
    data = json.dumps(message, separators=(",", ":"), allow_nan=True).encode()
    return len(data).to_bytes(4) + data


async def receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next message; PipeBroken when there is none."""
    try:
        size = int.from_bytes(await reader.readexactly(4))
        if size > MESSAGE_BYTES_MAX:
            raise PipeBroken(f"message of {size} bytes")
        found = json.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError, json.JSONDecodeError) as error:
        raise PipeBroken(str(error)) from None
    if not isinstance(found, dict):
        raise PipeBroken("not an object")
    return found
