"""A TCP port that stays while the server behind it goes and comes back on another port."""

import asyncio
import contextlib


class Relay:
    """Passes bytes on to ``port`` of this machine; while that is None nobody is let in."""

    def __init__(self):
        self.port = None
        self._open = set()

    @contextlib.asynccontextmanager
    async def listening(self):
        """Yield the port to connect to; all connections end with it."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await server.wait_closed()

    async def _carry(self, reader, writer):
        self._open.add(task := asyncio.current_task())
        task.add_done_callback(self._open.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self.port is not None:
                theirs, ours = await asyncio.open_connection("127.0.0.1", self.port)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pass(reader, ours))
                    both.create_task(_pass(theirs, writer))
        writer.close()


async def _pass(reader, writer):
    with contextlib.suppress(OSError):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
