"""A serial port as an asyncio transport, for RTU frames.

One owner a port (the port is opened exclusively): two masters on one line destroy each other's
frames. Parity and framing errors show as a wrong checksum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import serial
from typing_extensions import override

from gateway.devices.modbus.link import Link

READ_SIZE = 512  # more than any frame


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """How the line is driven: ``9600 8N1``."""

    path: str
    speed_baud: int = 9600
    format: str = "8N1"

    @property
    def silence_s(self) -> float:
        """The 3.5 characters of silence that separate frames, at least 1.75 ms."""
        bits = 1 + int(self.format[0]) + (self.format[1] != "N") + int(self.format[2])
        return max(0.00175, 3.5 * bits / self.speed_baud)


class SerialTransport(asyncio.Transport):
    """Feeds a link from a serial port through the event loop."""

    def __init__(self, port: serial.Serial, link: Link) -> None:
        super().__init__()
        self._port = port
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._unsent = b""
        self._closing = False
        port.reset_input_buffer()
        self._loop.add_reader(port.fileno(), self._readable)
        link.connection_made(self)

    def _readable(self) -> None:
        try:
            data = self._port.read(READ_SIZE)
        except (OSError, serial.SerialException) as error:
            self._lost(error)
            return
        if data:
            self._link.data_received(data)

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        waiting = bool(self._unsent)
        self._unsent += bytes(data)
        if not waiting:
            self._writable()

    def _writable(self) -> None:
        try:
            sent = self._port.write(self._unsent) or 0
        except (OSError, serial.SerialException) as error:
            self._lost(error)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._port.fileno(), self._writable)
        else:
            self._loop.remove_writer(self._port.fileno())

    @override
    def is_closing(self) -> bool:
        return self._closing

    @override
    def close(self) -> None:
        self._lost(None)

    @override
    def abort(self) -> None:
        self._lost(None)

    def _lost(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._port.fileno())
        self._loop.remove_writer(self._port.fileno())
        self._port.close()
        self._loop.call_soon(self._link.connection_lost, error)


def serial_opener(settings: LineSettings) -> Callable[[Callable[[], Link]], Awaitable[Link]]:
    """Open the port exclusively and without any wait of its own."""

    async def open_link(factory: Callable[[], Link]) -> Link:
        link = factory()
        try:
            port = serial.Serial(
                settings.path,
                baudrate=settings.speed_baud,
                bytesize=int(settings.format[0]),
                parity=settings.format[1],
                stopbits=int(settings.format[2]),
                timeout=0,
                write_timeout=0,
                exclusive=True,
            )
        except serial.SerialException as error:
            raise OSError(str(error)) from None
        SerialTransport(port, link)
        return link

    return open_link
