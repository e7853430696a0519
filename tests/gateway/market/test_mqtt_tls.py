"""The link over TLS with a password: only the broker we trust, only when it knows us."""

import asyncio
import contextlib
import gc
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from gateway.market.mqtt import Broker, MarketLink, broker_from

sys.path.insert(0, str(Path(__file__).parents[2]))  # for the fakes
from fakes.certificates import Authority


@pytest.fixture
async def secured(tmp_path, mosquitto_with):
    """A broker with a certificate of its own authority and one user."""
    authority = Authority(tmp_path / "pki")
    certificate, key = authority.issue("broker", server=True)
    for path in (tmp_path / "pki", certificate, key, authority.path):
        Path(path).chmod(0o755)
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "gateway", "secret"], check=True)
    passwords.chmod(0o644)
    broker = await mosquitto_with(
        f"certfile {certificate}", f"keyfile {key}", f"password_file {passwords}", anonymous=False
    )
    return broker.port, authority


def link(port, tls, password="secret"):
    return MarketLink(
        broker=Broker(host="127.0.0.1", port=port, tls=tls, username="gateway", password=password),
        identifier="gateway",
        subscriptions=["t"],
        availability="a",
    )


async def outcome(one, caplog):
    """Return ``online``, or the words of the first failure."""
    task = asyncio.create_task(one.run())
    try:
        async with asyncio.timeout(60):
            while not one.online.is_set() and not caplog.records:
                await asyncio.sleep(0.02)
        return "online" if one.online.is_set() else caplog.records[0].getMessage()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_broker_of_our_authority_is_believed(secured, caplog):
    port, authority = secured
    tls = broker_from("mqtts://127.0.0.1", ca_file=authority.path).tls
    assert await outcome(link(port, tls), caplog) == "online"


async def test_a_broker_of_an_unknown_authority_is_not(secured, caplog):
    port, _ = secured
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves its socket to the gc
        said = await outcome(link(port, broker_from("mqtts://127.0.0.1").tls), caplog)
        gc.collect()
    assert "CERTIFICATE_VERIFY_FAILED" in said


async def test_a_wrong_password_is_refused(secured, caplog):
    port, authority = secured
    tls = broker_from("mqtts://127.0.0.1", ca_file=authority.path).tls
    assert "authorized" in await outcome(link(port, tls, password="guess"), caplog)
