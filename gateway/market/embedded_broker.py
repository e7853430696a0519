"""A broker inside the process, for the demo and tests where no Mosquitto is installed.

Never for a plant: it does not send an unacknowledged message again, keeps nothing for a client
that is away, and limits no sizes (decision D13). Loopback only.
"""

from __future__ import annotations

from typing import Any


class EmbeddedBroker:
    """An amqtt broker on a free loopback port."""

    def __init__(self) -> None:
        self._broker: Any = None

    async def start(self) -> int:
        """Listen on a free port of 127.0.0.1 and return it."""
        from amqtt.broker import Broker  # noqa: PLC0415 - an extra, only where it is used

        assert self._broker is None, "already started"
        self._broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:0"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await self._broker.start()
        server = self._broker._servers["default"].instance  # noqa: SLF001 - no public way
        port = server.sockets[0].getsockname()[1]
        assert isinstance(port, int)
        return port

    async def stop(self) -> None:
        """Close every connection and stop listening; doing it twice is harmless."""
        if self._broker is not None:
            broker, self._broker = self._broker, None
            await broker.shutdown()
