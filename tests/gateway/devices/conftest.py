"""A loopback Modbus TCP device that does what a script says, and counts what it was asked."""

import asyncio
import struct
from collections import Counter

import pytest
from fakes.still_time import stand_still


class Wire:
    """One accepted connection."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    def close(self):
        self.writer.transport.abort()


class Peer:
    """Answers each request with ``script(self, wire, frame)``; frames are raw request ADUs."""

    def __init__(self, script, *, rtu=False):
        self.script, self.rtu = script, rtu
        self.requests, self.functions, self.connections, self.dropped = [], Counter(), 0, 0
        self.registers = list(range(1000, 1200))
        self.seen = asyncio.Condition()
        self.wires, self.tasks = [], set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for wire in self.wires:
            wire.writer.transport.abort()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.wait_closed()
        # A few turns of the loop let the aborted transports close their sockets.
        for _ in range(3):
            await asyncio.sleep(0)

    async def until(self, condition):
        async with asyncio.timeout(60), self.seen:
            await self.seen.wait_for(lambda: condition(self))

    async def _tell(self):
        async with self.seen:
            self.seen.notify_all()

    def _serve(self, reader, writer):
        # A plain callback and a task of our own, which can be ended and waited for.
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, reader, writer):
        wire = Wire(reader, writer)
        self.wires.append(wire)
        try:
            while True:
                frame = await self._take(reader)
                self.requests.append(frame)
                self.functions[frame[1] if self.rtu else frame[7]] += 1
                await self._tell()
                done = self.script(self, wire, frame)
                if done is not None:
                    await done
        except (asyncio.IncompleteReadError, ConnectionError):
            self.dropped += 1
            await self._tell()
        finally:
            writer.transport.abort()

    async def _take(self, reader):
        if self.rtu:
            head = await reader.readexactly(8)
            if head[1] == 16:
                head += await reader.readexactly(head[6] + 1)
            return head
        head = await reader.readexactly(6)
        return head + await reader.readexactly(int.from_bytes(head[4:6]))

    def honest_pdu(self, pdu):
        function, address, count = struct.unpack_from(">BHH", pdu)
        if function in (3, 4):
            words = self.registers[address : address + count]
            return struct.pack(f">BB{count}H", function, 2 * count, *words)
        if function == 16:
            self.registers[address : address + count] = struct.unpack_from(f">{count}H", pdu, 6)
        elif function == 6:
            self.registers[address] = count
        return pdu[:5]

    def honest(self, frame):
        if self.rtu:
            body = frame[:1] + self.honest_pdu(frame[1:-2])
            return body + crc(body)
        pdu = self.honest_pdu(frame[7:])
        return frame[:4] + (len(pdu) + 1).to_bytes(2) + frame[6:7] + pdu


def crc(data):
    """Bit by bit, so that it is not the table under test."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


def answer_honestly(peer, wire, frame):
    wire.send(peer.honest(frame))


@pytest.fixture
def peer():
    return Peer


@pytest.fixture
def honestly():
    return answer_honestly


@pytest.fixture
def crc_bytes():
    return crc


@pytest.fixture
async def still_time():
    """Waiting costs no time, and a busy machine no time-out."""
    return stand_still()
