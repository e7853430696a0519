"""A lean Modbus TCP server: several units, pipelined requests, and wire faults on demand."""

from __future__ import annotations

import asyncio
import ssl
import struct

from firmware_sim.faces.registers import ILLEGAL_FUNCTION
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.tls import ALL_FUNCTIONS, permitted
from firmware_sim.overriding import override

_HEADER = struct.Struct(">HHHB")
PDU_MAX = 253


class ModbusTcpServer:
    """Listens on one loopback port and answers for its units."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.wire = responder.wire
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(
        self, port: int, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen and return the port; 0 picks a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, ssl=tls)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and drop the connections."""
        self.drop_connections()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def drop_connections(self) -> None:
        """Reset every open connection."""
        for connection in list(self._connections):
            connection.abort()

    def cut(self, *, silent: bool) -> None:
        """Break the link: reset everything and refuse, or swallow everything without a word."""
        self.wire.cut = True
        self.wire.silent = silent
        if not silent:
            self.drop_connections()

    def opened(self, connection: _Connection) -> None:
        """Remember a connection."""
        self._connections.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    """One client: cuts the stream into frames and answers them in order."""

    def __init__(self, server: ModbusTcpServer) -> None:
        self._server = server
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._permitted = ALL_FUNCTIONS

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        wire = self._server.wire
        if wire.cut and not wire.silent:
            transport.abort()
            return
        self._permitted = permitted(transport.get_extra_info("ssl_object"))
        self._server.opened(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._server.closed(self)
        self._transport = None

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    @override
    def data_received(self, data: bytes) -> None:
        if self._server.wire.cut:
            return
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        out = []
        while size - at >= 8:
            transaction, protocol, length, unit_id = _HEADER.unpack_from(buffer, at)
            if protocol != 0 or not 2 <= length <= PDU_MAX + 1:
                # Without a valid header there is no telling where the next frame begins.
                self.abort()
                return
            end = at + 6 + length
            if end > size:
                break
            pdu = buffer[at + 7 : end]
            if pdu[0] in self._permitted:
                reply = self._server.responder.respond(unit_id, pdu)
            else:
                reply = bytes((pdu[0] | 0x80, ILLEGAL_FUNCTION))
            out.append(_HEADER.pack(transaction, 0, len(reply) + 1, unit_id) + reply)
            at = end
        self._buffer = buffer[at:]
        if out:
            self._send(b"".join(out))

    def _send(self, data: bytes) -> None:
        delay_s = self._server.wire.delay_s
        if delay_s > 0.0:
            asyncio.get_running_loop().call_later(delay_s, self._write, data)
        else:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._server.wire.cut:
            self._transport.write(data)
