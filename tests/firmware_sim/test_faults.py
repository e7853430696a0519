"""Every lie really is one: a strict client refuses it, an honest proxy is invisible."""

import asyncio
import random
import struct

import pytest

from firmware_sim.faces.modbus_tcp import ModbusTcpServer
from firmware_sim.faces.responder import Responder
from firmware_sim.faults import FAULTS, LINK_FAULTS, REPLY_LIES, REQUEST_LIES
from firmware_sim.proxy import FaultProxy


class Registers:
    identity = ("t", "t", "1")

    def __init__(self):
        self.words = [k * 7 + 1 for k in range(100)]

    def read(self, table, address, count):
        return self.words[address : address + count]

    def write(self, address, values):
        self.words[address : address + len(values)] = values

    def discrete(self, address, count):
        return []


class LiedError(Exception):
    """The strict client noticed."""


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer, self.tid = reader, writer, 100

    async def ask(self, pdu, unit=1, timeout_s=1.0):
        self.tid += 1
        self.writer.write(struct.pack(">HHHB", self.tid, 0, len(pdu) + 1, unit) + pdu)
        async with asyncio.timeout(timeout_s):
            head = await self.reader.readexactly(7)
            tid, protocol, length, back = struct.unpack(">HHHB", head)
            if (tid, protocol, back) != (self.tid, 0, unit) or not 2 <= length <= 254:
                raise LiedError(f"header {head.hex()}")
            reply = await self.reader.readexactly(length - 1)
        if reply[0] == pdu[0] | 0x80:
            if len(reply) != 2:
                raise LiedError("exception length")
            return reply
        if reply[0] != pdu[0]:
            raise LiedError("function")
        if pdu[0] in (3, 4):
            count = struct.unpack(">H", pdu[3:5])[0]
            if reply[1] != 2 * count or len(reply) != 2 + 2 * count:
                raise LiedError("registers")
        elif reply != pdu[:5]:
            raise LiedError("echo")
        try:
            async with asyncio.timeout(0.02):
                raise LiedError(f"more: {await self.reader.readexactly(1)}")
        except TimeoutError:
            return reply


READ = struct.pack(">BHH", 3, 10, 4)
OTHER = struct.pack(">BHH", 3, 40, 2)
WRITE = struct.pack(">BHHB4H", 16, 20, 4, 8, 0, 50_000, 0xFFFF, 0)
HONEST = bytes((3, 8)) + struct.pack(">4H", 71, 78, 85, 92)


@pytest.fixture
async def bench():
    unit = Registers()
    server = ModbusTcpServer(Responder({1: unit}, refresh=lambda: None))
    port = await server.start(0)
    proxy = FaultProxy("127.0.0.1", port, rng=random.Random(7), wait=asyncio.sleep)
    proxy_port = await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
    yield unit, proxy, Client(reader, writer), proxy_port
    writer.close()
    await proxy.close()
    await server.close()


async def test_an_honest_proxy_is_invisible(bench):
    unit, _, client, _ = bench
    assert await client.ask(READ) == HONEST
    await client.ask(WRITE)
    assert unit.words[20:24] == [0, 50_000, 0xFFFF, 0]


VALUES = {
    "nan", "infinity", "not_implemented", "all_ones", "all_zero", "absurd", "word_swap",
    "byte_swap", "sign_flip", "float_sign_flip", "noise",
}  # fmt: skip


@pytest.mark.parametrize("fault", sorted(set(REPLY_LIES) - VALUES - {"exception", "bit_flip"}))
async def test_a_strict_client_notices_every_lie_about_the_frame(bench, fault):
    _, proxy, client, _ = bench
    await client.ask(OTHER)
    proxy.apply(fault)
    with pytest.raises((LiedError, TimeoutError, asyncio.IncompleteReadError, ConnectionError)):
        await client.ask(WRITE if fault.startswith("echo") else READ, timeout_s=0.2)
    assert proxy.log == [fault]


@pytest.mark.parametrize("fault", sorted(VALUES))
async def test_lies_about_values_pass_every_check_of_the_frame(bench, fault):
    _, proxy, client, _ = bench
    proxy.apply(fault)
    reply = await client.ask(READ)
    assert len(reply) == len(HONEST)
    assert reply != HONEST


async def test_exception_on_demand(bench):
    _, proxy, client, _ = bench
    proxy.apply("exception", code=11)
    assert await client.ask(READ) == bytes((0x83, 11))


async def test_lost_write_is_acknowledged_and_never_done(bench):
    unit, proxy, client, _ = bench
    before = list(unit.words)
    proxy.apply("lost_write")
    await client.ask(WRITE)
    assert unit.words == before


async def test_partial_write_is_acknowledged_in_full(bench):
    unit, proxy, client, _ = bench
    proxy.apply("partial_write", registers=1)
    await client.ask(WRITE)
    assert unit.words[20:24] == [0, 148, 155, 162]


async def test_clipped_write(bench):
    unit, proxy, client, _ = bench
    proxy.apply("clip_write", limit=30_000)
    await client.ask(WRITE)
    assert unit.words[20:22] == [0, 30_000]
    assert unit.words[22] << 16 | unit.words[23] == (-30_000) & 0xFFFF_FFFF


async def test_flipped_bit_of_a_write(bench):
    unit, proxy, client, _ = bench
    proxy.apply("flip_write")
    await client.ask(WRITE)
    sent = (0, 50_000, 0xFFFF, 0)
    changed = [a ^ b for a, b in zip(unit.words[20:24], sent, strict=True)]
    assert sum(word.bit_count() for word in changed) == 1


async def test_frozen_values_while_the_device_moves_on(bench):
    unit, proxy, client, _ = bench
    proxy.apply("frozen")
    assert await client.ask(READ) == HONEST
    unit.words[10] = 9999
    assert await client.ask(READ) == HONEST
    proxy.clear()
    assert await client.ask(READ) != HONEST


async def test_a_stalled_write_is_done_after_its_writer_gave_up(bench):
    unit, proxy, client, _ = bench
    proxy.apply("stall", for_s=0.3, times=1)
    with pytest.raises(TimeoutError):
        await client.ask(WRITE, timeout_s=0.1)
    client.writer.transport.abort()
    assert unit.words[21] != 50_000
    async with asyncio.timeout(60):
        while unit.words[21] != 50_000:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("fault", ["half_open", "lose_request", "lose_reply"])
async def test_silence(bench, fault):
    unit, proxy, client, _ = bench
    proxy.apply(fault)
    with pytest.raises(TimeoutError):
        await client.ask(WRITE, timeout_s=0.1)
    assert (unit.words[21] == 50_000) == (fault == "lose_reply")


async def test_reset_before_the_reply_leaves_the_write_done(bench):
    unit, proxy, client, _ = bench
    proxy.apply("reset_before_reply")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.ask(WRITE)
    async with asyncio.timeout(60):
        while unit.words[21] != 50_000:
            await asyncio.sleep(0.01)


async def test_reset_and_refuse(bench):
    _, proxy, client, port = bench
    await client.ask(READ)
    proxy.apply("reset")
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await client.ask(READ)
    proxy.apply("refuse")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()


@pytest.mark.parametrize("fault", ["split", "dribble"])
async def test_slow_bytes_are_a_whole_answer_in_the_end(bench, fault):
    _, proxy, client, _ = bench
    proxy.apply(fault, **({"gap_s": 0.001} if fault == "dribble" else {}))
    assert await client.ask(READ) == HONEST


async def test_a_late_reply_meets_the_next_request(bench):
    _, proxy, client, _ = bench
    proxy.apply("late_reply", delay_s=0.15, times=1)
    with pytest.raises(TimeoutError):
        await client.ask(READ, timeout_s=0.05)
    with pytest.raises(LiedError):
        await client.ask(OTHER)


async def test_an_endless_stream_never_ends(bench):
    _, proxy, client, _ = bench
    proxy.apply("endless")
    with pytest.raises(LiedError):
        await client.ask(READ)
    assert len(await client.reader.readexactly(100_000)) == 100_000


async def test_rate_times_unit_and_function_select_the_victims(bench):
    _, proxy, client, _ = bench
    proxy.apply("exception", functions=["write"])
    assert await client.ask(READ) == HONEST
    assert (await client.ask(WRITE))[0] == 0x90
    proxy.clear()
    proxy.apply("exception", times=1)
    assert (await client.ask(READ))[0] == 0x83
    assert await client.ask(READ) == HONEST
    proxy.clear()
    proxy.apply("exception", unit=2)
    assert await client.ask(READ) == HONEST
    proxy.clear()
    proxy.apply("exception", rate=0.3)
    seen = [(await client.ask(READ))[0] == 0x83 for _ in range(40)]
    assert 0 < sum(seen) < 30


@pytest.mark.parametrize(
    ("fault", "settings"),
    [
        ("lost_write", {}),
        ("flip_write", {}),
        ("partial_write", {}),
        ("clip_write", {"limit": 30_000}),
        ("echo_address", {}),
        ("echo_count", {}),
    ],
)
async def test_a_lie_about_writes_is_not_used_up_nor_logged_by_what_it_cannot_change(
    bench, fault, settings
):
    unit, proxy, client, _ = bench
    proxy.apply(fault, times=1, **settings)
    for _ in range(3):
        assert await client.ask(READ) == HONEST
    assert proxy.log == []
    if fault.startswith("echo"):
        with pytest.raises(LiedError):
            await client.ask(WRITE)
    else:
        await client.ask(WRITE)
        assert unit.words[20:24] != [0, 50_000, 0xFFFF, 0]
    assert proxy.log == [fault]
    await client.ask(WRITE)
    assert unit.words[20:24] == [0, 50_000, 0xFFFF, 0]
    assert proxy.log == [fault]


async def test_a_lie_about_values_leaves_writes_alone(bench):
    _, proxy, client, _ = bench
    proxy.apply("all_zero", times=1)
    await client.ask(WRITE)
    assert proxy.log == []
    assert await client.ask(READ) != HONEST


async def test_a_write_within_the_limit_is_not_clipped(bench):
    unit, proxy, client, _ = bench
    proxy.apply("clip_write", limit=70_000)
    await client.ask(WRITE)
    assert unit.words[20:24] == [0, 50_000, 0xFFFF, 0]
    assert proxy.log == []


async def test_settings_as_a_command_line_gives_them(bench):
    unit, proxy, client, _ = bench
    before = list(unit.words)
    proxy.apply("lost_write", rate="100%", times="1", unit="1", functions="write,16")
    await client.ask(READ)
    await client.ask(WRITE)
    assert unit.words == before
    await client.ask(WRITE)
    assert unit.words != before


@pytest.mark.parametrize(
    ("fault", "order", "key"),
    [
        ("wrong_tid", {"rate": "often"}, "rate"),
        ("wrong_tid", {"rate": 2}, "rate"),
        ("wrong_tid", {"times": "0"}, "times"),
        ("wrong_tid", {"unit": "east"}, "unit"),
        ("wrong_tid", {"functions": "writes"}, "functions"),
        ("wrong_tid", {"for_s": 30.0}, "for_s"),
        ("wrong_tid", {"target": "station"}, "target"),
        ("delay", {"delay_s": "long"}, "delay_s"),
        ("exception", {"code": 256}, "code"),
    ],
)
def test_a_setting_nobody_understands_is_refused(fault, order, key):
    proxy = FaultProxy("127.0.0.1", 1, rng=random.Random(1), wait=asyncio.sleep)
    with pytest.raises(ValueError, match=f"^{key}: "):
        proxy.apply(fault, **order)


async def test_the_same_seed_lies_the_same_way(bench):
    def course(seed):
        from firmware_sim.faults import Exchange, Frame

        rng = random.Random(seed)
        frame = Frame(transaction_id=5, unit_id=1, pdu=READ)
        reply = Frame(transaction_id=5, unit_id=1, pdu=HONEST)
        return [REPLY_LIES[name](Exchange(request=frame, reply=reply), rng) for name in REPLY_LIES]

    assert course(1) == course(1)
    assert course(1) != course(2)


def test_unknown_faults_are_refused():
    proxy = FaultProxy("127.0.0.1", 1, rng=random.Random(1), wait=asyncio.sleep)
    with pytest.raises(ValueError, match="no such fault"):
        proxy.apply("fib")
    assert len(FAULTS) == len(set(FAULTS)) == len(REPLY_LIES) + len(REQUEST_LIES) + len(LINK_FAULTS)
