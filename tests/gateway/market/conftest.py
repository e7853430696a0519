"""A broker of our own for the tests of the market edge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for signed_trades, which the tests share


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Mosquitto:
    """Our own mosquitto on a loopback port, with its own directory; can be killed and started."""

    def __init__(self, directory: Path, *more: str, anonymous: bool = True) -> None:
        self.port = free_port()
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\n"
            f"allow_anonymous {str(anonymous).lower()}\n"
            "persistence true\n"
            f"persistence_location {directory}/\n"
            "autosave_on_changes true\n"
            "autosave_interval 1\n"
            "log_dest none\n"
            + "".join(f"{line}\n" for line in more)
            + ("user root\n" if os.geteuid() == 0 else "")
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec("mosquitto", "-c", str(self._config))
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.01)

    async def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()


@pytest.fixture
async def mosquitto(tmp_path):
    if shutil.which("mosquitto") is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail("mosquitto is not installed, SOPGW_REQUIRE_SERVERS=1 asks for it")
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def hasty_mosquitto(tmp_path, mosquitto):
    """A broker that does not wait for acknowledgements."""
    broker = Mosquitto(tmp_path, "max_inflight_messages 0", "max_queued_messages 0")
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def mosquitto_with(tmp_path, mosquitto):
    """Starts further brokers with settings of their own."""
    started = []

    async def start(*more, anonymous=True):
        broker = Mosquitto(tmp_path, *more, anonymous=anonymous)
        await broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        await broker.stop()
