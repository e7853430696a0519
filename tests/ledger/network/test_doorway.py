"""What is malformed or broken off at a door of the ledger's programs leaves no line in the log."""

import asyncio
import contextlib

import pytest
from aiohttp import web

from ledger.network.doorway import runner_of


@contextlib.asynccontextmanager
async def door(handler):
    app = web.Application()
    app.router.add_post("/", handler)
    runner = runner_of(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def said(port, data):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    got = await reader.read(1 << 16)
    writer.close()
    return got


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTQ/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: \0\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_answered_and_not_written_down(caplog, data):
    async def never(_request):
        raise AssertionError("it is no request")

    async with door(never) as port:
        assert b"400" in (await said(port, data))[:20]
    assert caplog.records == []


async def test_who_goes_in_the_middle_of_a_body_is_not_written_down(caplog):
    began, over = asyncio.Event(), asyncio.Event()

    async def reading(request):
        began.set()
        try:
            await request.read()
        finally:
            over.set()
        return web.Response()

    async with door(reading) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
        await began.wait()
        writer.transport.abort()
        async with asyncio.timeout(60):
            await over.wait()
    assert caplog.records == []


async def test_a_defect_of_ours_is_written_down(caplog):
    async def wrong(_request):
        raise ValueError("a defect")

    async with door(wrong) as port:
        assert b"500" in await said(
            port, b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
    assert "a defect" in caplog.text
