"""Ways to the simulated station that it does not speak itself: TLS, RTU over TCP, RTU on a line."""

import asyncio
import os
import pty
import ssl
import tty


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


async def take_tcp(reader):
    head = await reader.readexactly(6)
    return head + await reader.readexactly(int.from_bytes(head[4:6]))


class Behind:
    """The station's own Modbus TCP port, asked with RTU frames."""

    def __init__(self, port):
        self.port, self.wire = port, None

    async def ask(self, request):
        if self.wire is None:
            self.wire = await asyncio.open_connection("127.0.0.1", self.port)
        assert crc(request[:-2]) == request[-2:]
        reader, writer = self.wire
        writer.write(b"\0\1\0\0" + (len(request) - 2).to_bytes(2) + request[:-2])
        reply = (await take_tcp(reader))[6:]
        return reply + crc(reply)

    def close(self):
        if self.wire is not None:
            self.wire[1].transport.abort()


async def take_rtu(reader):
    head = await reader.readexactly(8)
    return head + await reader.readexactly(head[6] + 1) if head[1] == 16 else head


class RtuOverTcp:
    def __init__(self, port):
        self.station, self.wires = port, []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"modbus+rtutcp://127.0.0.1:{self.port}"
        return self

    async def _serve(self, reader, writer):
        behind = Behind(self.station)
        self.wires.append(writer)
        try:
            while True:
                writer.write(await behind.ask(await take_rtu(reader)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            behind.close()
            writer.transport.abort()

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.wires:
            writer.transport.abort()
        await asyncio.sleep(0.01)


class SerialLine:
    def __init__(self, port):
        self.behind, self.data, self.tasks = Behind(port), b"", set()

    async def __aenter__(self):
        self.ours, self.theirs = pty.openpty()
        for end in (self.ours, self.theirs):
            tty.setraw(end)
        os.set_blocking(self.ours, False)
        self.url = f"modbus+rtu://{os.ttyname(self.theirs)}?baud=115200"
        asyncio.get_running_loop().add_reader(self.ours, self._readable)
        return self

    def _readable(self):
        self.data += os.read(self.ours, 1024)
        size = 8 if len(self.data) < 8 or self.data[1] != 16 else 9 + self.data[6]
        if len(self.data) >= size:
            request, self.data = self.data[:size], self.data[size:]
            task = asyncio.get_running_loop().create_task(self._answer(request))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _answer(self, request):
        os.write(self.ours, await self.behind.ask(request))

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_reader(self.ours)
        self.behind.close()
        os.close(self.ours)
        os.close(self.theirs)
        await asyncio.sleep(0.01)


class Tls:
    def __init__(self, port, authority):
        self.station, self.authority, self.wires = port, authority, []

    async def __aenter__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.authority.issue("station", server=True))
        context.load_verify_locations(self.authority.path)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        port = self.server.sockets[0].getsockname()[1]
        certificate, key = self.authority.issue("gateway", role="operator")
        ca = self.authority.path
        self.url = f"modbus+tls://127.0.0.1:{port}?ca={ca}&cert={certificate}&key={key}"
        return self

    async def _serve(self, reader, writer):
        behind, ahead = await asyncio.open_connection("127.0.0.1", self.station)
        self.wires += [writer, ahead]
        try:
            while True:
                ahead.write(await take_tcp(reader))
                writer.write(await take_tcp(behind))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            ahead.transport.abort()
            writer.transport.abort()

    async def __aexit__(self, *_):
        self.server.close()
        for writer in self.wires:
            writer.transport.abort()
        await asyncio.sleep(0.01)
