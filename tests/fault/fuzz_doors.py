"""Bad input at the doors for people: the page's HTTP, the operator's socket, the OPC UA server.

Every piece gets an answer or a closed connection; no answer shows a stack trace; afterwards the
door serves a good question as before. ``make fault-doors COUNT=10000``.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.opcua_papers import certificate, new_key, save  # noqa: E402
from fakes.people_rig import NOBODY, PeopleRig  # noqa: E402

from gateway.hmi.page import Page  # noqa: E402
from gateway.northbound.opcua_feed import OpcuaFeed, OpcuaServing  # noqa: E402
from gateway.runtime.control import ask  # noqa: E402

TRACES = (b"Traceback", b'File "')
ANSWER_S = 5.0
PAGE_S = 0.2  # half a request waits for its other half: enough to see whether it is answered
AT_ONCE = 16
REQUESTS = (
    b"GET /en/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /receipts/T-1.json HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\n\r\n",
    b"POST /en/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 12\r\n\r\nname=a&passw",
    b"GET /en/trades/T-1 HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /events/en/overview HTTP/1.0\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\r\n",
)
LINES = (
    b'{"verb": "status"}',
    b'{"verb": "mode", "mode": "on"}',
    b'{"verb": "setpoint", "setpoints": {"T2": 1000}, "for_ms": 1000}',
    b'{"verb": "shelve", "code": "A-104", "for_s": 60, "reason": "x"}',
    b'{"verb": "limits.propose", "terminal": "T2", "p_w_min": -1, "p_w_max": 1}',
)
HELLO = bytes.fromhex(
    "48454c46380000000000000000000100000001000000000000000000"
    "180000006f70632e7463703a2f2f6c6f63616c686f73743a34383430"
)
OPEN = bytes.fromhex("4f504e462f00000000000000") + bytes(35)


def mutated(piece, chance):
    """Change a piece: bits, cuts, repeats, sizes, rubbish."""
    data = bytearray(piece)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1:
                del data[at : at + chance.randrange(1, 20)]
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 12)))
            case 3:
                data[at:at] = data[: chance.randrange(len(data) + 1)]
            case 4:
                data[at:at] = chance.choice((b"../", b"%00", b"\0", b"\r\n", b"{{", b"\xff\xfe"))
            case 5:
                data[at:at] = str(chance.choice((-1, 2**31, 2**64, 10**30, "NaN", 1e309))).encode()
            case _:
                data[at:at] = chance.choice((b"[" * 300, b"A" * 3000, b'"\\ud800"', b": " * 99))
    return bytes(data)


async def answer_of(opening, data, *, ends, wait_s=ANSWER_S):
    """Send one piece and read until the door has answered or closed."""
    reader, writer = await opening()
    got = b""
    try:
        writer.write(data)
        if ends and writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while piece := await reader.read(65536):
                    got += piece
                    if not ends or len(got) > 1 << 20:
                        break
    except ConnectionError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return got


async def at_door(name, opening, pieces, count, chance, still_good, counts, **how):
    """Try ``count`` pieces at a door, some at once; raise at the first trace or silence."""

    async def one():
        data = mutated(chance.choice(pieces), chance)
        got = await answer_of(opening, data, **how)
        if any(word in got for word in TRACES):
            raise SystemExit(f"{name}: a stack trace after {data!r}: {got[:300]!r}")
        counts[name, "answered" if got else "closed or kept waiting"] += 1

    for done in range(0, count, AT_ONCE):
        await asyncio.gather(*(one() for _ in range(min(AT_ONCE, count - done))))
        if done % 500 == 0 or done + AT_ONCE >= count:
            await still_good()


async def page_door(view, count, chance, counts):
    class NoRecords:
        async def trade_entries(self, _trade_id):
            return []

        async def latest_entries(self, _count):
            return []

        async def receipt(self, _trade_id):
            return None

    page = Page(lambda: view, NoRecords(), period_s=0.5)
    port = await page.start("127.0.0.1", 0)

    def opening():
        return asyncio.open_connection("127.0.0.1", port)

    async def still_good():
        got = await answer_of(opening, REQUESTS[1], ends=False)
        assert got.startswith(b"HTTP/1.1 200"), got[:100]

    # A stream of events is an answer without end: not one of the pieces that must end.
    try:
        await at_door(
            "page", opening, REQUESTS[:5], count, chance, still_good, counts,
            ends=False, wait_s=PAGE_S,
        )  # fmt: skip
    finally:
        await page.stop()


async def socket_door(folder, count, chance, counts):
    rig = await PeopleRig(members=NOBODY, mode="test").start()
    path = folder / "s.sock"
    serving = asyncio.create_task(rig.socket(path).run())
    while not path.exists():
        await asyncio.sleep(0)

    async def still_good():
        assert (await ask(path, {"verb": "status"}))["ok"]

    def opening():
        return asyncio.open_unix_connection(str(path))

    pieces = [line + b"\n" for line in LINES]
    try:
        await at_door("socket", opening, pieces, count, chance, still_good, counts, ends=True)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def opcua_door(view, folder, count, chance, counts):
    key = new_key()
    save(folder, "server", key, certificate(key, "urn:server"))
    save(folder / "trusted", "room", key, certificate(key, "urn:room"))
    serving = OpcuaServing(
        host="127.0.0.1",
        port=0,
        certificate=folder / "server.der",
        key=folder / "server.pem",
        trusted=folder / "trusted",
    )
    (folder / "trusted" / "room.pem").unlink()
    feed = OpcuaFeed(serving, lambda: view, period_s=0.2)
    running = asyncio.create_task(feed.run())
    await feed.listening.wait()

    def opening():
        return asyncio.open_connection("127.0.0.1", feed.port)

    async def still_good():
        got = await answer_of(opening, HELLO, ends=False)
        assert got[:3] == b"ACK", got[:40]
        assert feed.started_count == 1, "the server's process died"

    try:
        pieces = (HELLO, HELLO + OPEN)
        await at_door("OPC UA", opening, pieces, count, chance, still_good, counts, ends=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def made_view():
    """Return the made-up site of the page's tests."""
    where = ROOT / "tests" / "gateway" / "hmi" / "conftest.py"
    spec = importlib.util.spec_from_file_location("hmi_site", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_view()


async def campaign(count, seed, *, opcua=True):
    """Try ``count`` pieces at each door; return what came of them."""
    counts = Counter()
    folder = Path(tempfile.mkdtemp())
    try:
        await page_door(made_view(), count, random.Random(seed), counts)
        await socket_door(folder, count, random.Random(seed + 1), counts)
        if opcua:
            await opcua_door(made_view(), folder, count, random.Random(seed + 2), counts)
    finally:
        shutil.rmtree(folder)
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    counts = asyncio.run(campaign(arguments.count, arguments.seed))
    told = {f"{door}: {what}": number for (door, what), number in sorted(counts.items())}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
