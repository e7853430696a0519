"""Modbus RTU framing, on a pseudo-terminal or inside a TCP connection."""

from __future__ import annotations

import asyncio
import os
import random  # noqa: TID251 (seeded instances only)
import tty
from pathlib import Path

from firmware_sim.faces.responder import Responder
from firmware_sim.overriding import override
from firmware_sim.plant.setpoints import crc16

FRAME_SIZE_MAX = 256
# Length of a request without its CRC, by function; where bytes are counted, their place.
_FIXED = {1: 6, 2: 6, 3: 6, 4: 6, 5: 6, 6: 6, 17: 2, 22: 8, 43: 5}
_COUNTED = {15: 6, 16: 6, 23: 10}
BROADCAST = 0


def seal(frame: bytes) -> bytes:
    """Append the checksum, low byte first."""
    return frame + crc16(frame).to_bytes(2, "little")


def _wanted(buffer: bytes) -> int | None:
    """Length of the request that begins the buffer; None while it cannot be told."""
    if len(buffer) < 2:
        return None
    function = buffer[1]
    if function in _FIXED:
        return _FIXED[function] + 2
    if function in _COUNTED:
        place = _COUNTED[function]
        return None if len(buffer) <= place else place + 1 + buffer[place] + 2
    return 4


class RtuFramer:
    """Cuts the byte stream into requests and answers them; noise flips bits on both ways."""

    def __init__(self, responder: Responder, *, seed: int = 1) -> None:
        self._responder = responder
        self._buffer = b""
        self._rng = random.Random(seed)  # noqa: S311 (a simulation)
        self.dropped_count = 0

    def feed(self, data: bytes) -> bytes:
        """Take received bytes and return what goes back."""
        wire = self._responder.wire
        if wire.cut:
            return b""
        out = data if wire.echo else b""
        self._buffer += self._noisy(data)
        while True:
            wanted = _wanted(self._buffer)
            if wanted is None or len(self._buffer) < wanted:
                if len(self._buffer) > FRAME_SIZE_MAX:
                    self._buffer = b""
                return out
            frame = self._buffer[:wanted]
            if crc16(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
                # Out of step: let go of one byte and look again.
                self._buffer = self._buffer[1:]
                self.dropped_count += 1
                continue
            self._buffer = self._buffer[wanted:]
            out += self._answer(frame[0], frame[1:-2])

    def silence(self) -> None:
        """The line was quiet: whatever is half received is no frame."""
        self._buffer = b""

    def _answer(self, unit_id: int, pdu: bytes) -> bytes:
        units = self._responder.units
        if unit_id == BROADCAST:
            for each in units:
                self._responder.respond(each, pdu)
            return b""
        if unit_id not in units:
            return b""  # on a bus nobody answers for somebody else
        return self._noisy(seal(bytes((unit_id,)) + self._responder.respond(unit_id, pdu)))

    def _noisy(self, data: bytes) -> bytes:
        ratio = self._responder.wire.bit_error_ratio
        if ratio <= 0.0:
            return data
        flipped = bytearray(data)
        for bit in range(8 * len(data)):
            if self._rng.random() < ratio:
                flipped[bit // 8] ^= 1 << bit % 8
        return bytes(flipped)


class PtyBus:
    """A serial line: a pseudo-terminal whose other end a client opens like a port."""

    def __init__(self, responder: Responder) -> None:
        self.framer = RtuFramer(responder)
        self._responder = responder
        self._master_code = -1
        self._slave_code = -1
        self._link: Path | None = None

    def open(self, link: Path | None = None) -> str:
        """Open the line and return the name of the client's end."""
        self._master_code, self._slave_code = os.openpty()
        tty.setraw(self._slave_code)
        os.set_blocking(self._master_code, False)
        asyncio.get_running_loop().add_reader(self._master_code, self._readable)
        name = os.ttyname(self._slave_code)
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(name)
            self._link = link
        return name

    def _readable(self) -> None:
        try:
            data = os.read(self._master_code, 4096)
        except OSError:
            return
        reply = self.framer.feed(data)
        if reply:
            delay_s = self._responder.wire.delay_s
            asyncio.get_running_loop().call_later(delay_s, self._write, reply)

    def _write(self, data: bytes) -> None:
        if self._master_code >= 0:
            os.write(self._master_code, data)

    def close(self) -> None:
        """Take the line away."""
        if self._master_code >= 0:
            asyncio.get_running_loop().remove_reader(self._master_code)
            os.close(self._master_code)
            os.close(self._slave_code)
            self._master_code = -1
        if self._link is not None:
            self._link.unlink(missing_ok=True)


class RtuTcpServer:
    """RTU frames inside TCP, as serial converters forward them."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.wire = responder.wire
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def start(self, port: int) -> int:
        """Listen on loopback and return the port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _RtuConnection(self.responder, self._transports), "127.0.0.1", port
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening."""
        self.drop_connections()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def drop_connections(self) -> None:
        """Reset every open connection."""
        for transport in list(self._transports):
            transport.abort()

    def cut(self, *, silent: bool) -> None:
        """Break the link: reset everything and refuse, or swallow everything without a word."""
        self.wire.cut = True
        self.wire.silent = silent
        if not silent:
            self.drop_connections()


class _RtuConnection(asyncio.Protocol):
    def __init__(self, responder: Responder, transports: set[asyncio.Transport]) -> None:
        self._wire = responder.wire
        self._framer = RtuFramer(responder)
        self._transports = transports
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._wire.cut and not self._wire.silent:
            transport.abort()
            return
        self._transport = transport
        self._transports.add(transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._transport is not None:
            self._transports.discard(self._transport)
        self._transport = None

    @override
    def data_received(self, data: bytes) -> None:
        reply = self._framer.feed(data)
        if not reply:
            return
        if self._wire.delay_s > 0.0:
            asyncio.get_running_loop().call_later(self._wire.delay_s, self._write, reply)
        else:
            self._write(reply)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._wire.cut:
            self._transport.write(data)
