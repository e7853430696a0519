"""The wire between a node and the etcd members: it can be cut, and it can be slow."""

import asyncio
import contextlib


class Wire:
    """Loopback ports that forward to others, each a host and a port; ``cut`` and ``delay_s`` hold for all of them."""

    def __init__(self, targets):
        self.targets = targets
        self.delay_s = 0.0
        self.urls = []
        self._whole = True
        self._servers = []
        self._writers = set()

    async def start(self):
        for target in self.targets:
            server = await asyncio.start_server(self._take(target), "127.0.0.1", 0)
            self._servers.append(server)
            self.urls.append(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    def cut(self):
        """A partition: what runs breaks off, nothing new gets through."""
        self._whole = False
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self):
        self._whole = True
        self.delay_s = 0.0

    def _take(self, target):
        async def connected(reader, writer):
            if not self._whole:
                writer.transport.abort()
                return
            try:
                there, back = await asyncio.open_connection(*target)
            except OSError:
                writer.transport.abort()
                return
            self._writers |= {writer, back}
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                self._writers -= {writer, back}
                writer.transport.abort()
                back.transport.abort()

        return connected

    async def _pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def stop(self):
        self.cut()
        for server in self._servers:
            server.close()
            await server.wait_closed()
