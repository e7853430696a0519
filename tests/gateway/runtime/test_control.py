"""The operator's socket: private, strict, one answer a line."""

import asyncio
import json
import os
import stat

import pytest

from gateway.runtime.control import LINE_BYTES_MAX, ControlSocket, ask


@pytest.fixture
async def served(tmp_path):
    orders = []

    async def order(verb, user, arguments):
        orders.append((verb, user, dict(arguments)))
        return "done"

    path = tmp_path / "sopgw.sock"
    control = ControlSocket(path=path, status=lambda: {"mode": "on"}, order=order)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(control.run())
        while not path.exists():
            await asyncio.sleep(0)
        yield path, orders
        task.cancel()
    assert not path.exists()


async def test_only_its_owner_may_open_it(served):
    path, _ = served
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_status_is_answered_and_orders_nothing(served):
    path, orders = served
    assert (await ask(path, {"verb": "status"}))["status"] == {"mode": "on"}
    assert orders == []


async def test_an_order_carries_the_user_the_kernel_knows(served):
    path, orders = served
    assert (await ask(path, {"verb": "mode", "mode": "blocked", "user": "root"}))["ok"]
    assert orders[0][:2] == ("mode", f"uid:{os.getuid()}")


@pytest.mark.parametrize(
    "request_", [{"verb": "explode"}, {"mode": "on"}, {"verb": "mode", "mode": "turbo"}, [1]]
)
async def test_what_is_not_understood_is_refused_and_not_carried_out(served, request_):
    path, orders = served
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(json.dumps(request_).encode() + b"\n")
    answer = json.loads(await reader.readline())
    writer.close()
    assert answer["ok"] is False
    assert orders == []


async def test_an_endless_line_ends_its_own_connection_only(served):
    path, _ = served
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"x" * (LINE_BYTES_MAX * 3))
    assert await reader.read() == b""
    writer.close()
    assert (await ask(path, {"verb": "status"}))["ok"]
