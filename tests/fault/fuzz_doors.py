"""Bad input at every door: sockets, HTTP with and without TLS, topics, and the files of commands.

Every piece gets an answer or a closed connection; no answer shows a stack trace or says that the
server broke, no log tells of an exception; afterwards the door serves a good question as before.
``make fault-doors COUNT=10000``, or one door: ``fuzz_doors.py --door witness --count 1000``.

Not here: what devices answer (``fuzz_modbus.py``), the ledger's own files (``ledger_fuzz.py``).
"""

import argparse
import asyncio
import importlib.util
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.certificates import Authority  # noqa: E402
from fakes.opcua_papers import certificate, new_key, save  # noqa: E402
from fakes.people_rig import NOBODY, PeopleRig  # noqa: E402
from fault.doors_files import FILES, file_door  # noqa: E402
from fault.doors_market import market_doors, node_doors, relay_door, witness_doors  # noqa: E402
from fault.doors_pieces import PAGE_S, answer_of, at_door, http, mutated  # noqa: E402

from gateway.hmi import accounts  # noqa: E402
from gateway.hmi.accounts import Accounts, new_account, write  # noqa: E402
from gateway.hmi.login import Login  # noqa: E402
from gateway.hmi.page import Page  # noqa: E402
from gateway.northbound.opcua_feed import OpcuaFeed, OpcuaServing  # noqa: E402
from gateway.runtime.control import ask  # noqa: E402
from ledger.network.tls import TlsFiles, calling, serving  # noqa: E402

PASSWORD = "correct horse battery"
REQUESTS = (
    b"GET /en/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /state.json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /receipts/T-1.json HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-1\r\n\r\n",
    b"POST /en/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 12\r\n\r\nname=a&passw",
    b"GET /en/trades/T-1 HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)  # a stream of events is an answer without end: not one of the pieces that must end
FORM = b"name=ann&password=correct+horse+battery"
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


class NoRecords:
    async def trade_entries(self, _trade_id):
        return []

    async def latest_entries(self, _count):
        return []

    async def receipt(self, _trade_id):
        return None


async def page_doors(folder, count, chance, counts):
    """The page as it is on loopback: no accounts, no TLS."""
    view = made_view()
    page = Page(lambda: view, NoRecords(), period_s=0.5)
    port = await page.start("127.0.0.1", 0)

    def opening():
        return asyncio.open_connection("127.0.0.1", port)

    async def still_good():
        got = await answer_of(opening, REQUESTS[1], ends=False)
        assert got.startswith(b"HTTP/1.1 200"), got[:100]

    try:
        await at_door(
            "page", opening, lambda: mutated(chance.choice(REQUESTS), chance), count,
            still_good, counts, ends=False, wait_s=PAGE_S,
        )  # fmt: skip
    finally:
        await page.stop()


@asynccontextmanager
async def tls_page(folder):
    """The page with accounts, served to whoever has a certificate; gives port and our context."""
    view, heard = made_view(), []
    authority = Authority(folder / "page-authority")
    ours, key = authority.issue("page", server=True)
    certificate_, key_ = authority.issue("reader")
    file = folder / "accounts.json"
    write(file, {"ann": new_account(name="ann", role="viewer", password=PASSWORD)})

    async def audit(event, name, address):
        heard.append((event, name, address))

    page = Page(
        lambda: view,
        NoRecords(),
        period_s=0.5,
        tls=serving(certificate=ours, key=key, clients=authority.path),
        login=Login(Accounts(file), audit, secure=True),
    )
    files = TlsFiles(authority=authority.path, certificate=certificate_, key=key_)
    try:
        yield await page.start("127.0.0.1", 0), calling(files)
    finally:
        await page.stop()


async def page_tls_doors(folder, count, chance, counts):
    """The page with accounts behind TLS: half the pieces at the TLS, half inside it."""
    accounts.MEMORY_KIB = 64  # guessing passwords is not what is tried here
    async with tls_page(folder) as (port, ours):

        def outside():
            return asyncio.open_connection("127.0.0.1", port)

        def inside():
            return asyncio.open_connection("127.0.0.1", port, ssl=ours)

        async def still_good():
            got = await answer_of(inside, http("GET", "/en/login"), ends=False)
            assert got.startswith(b"HTTP/1.1 200"), got[:100]

        def entering():
            if chance.random() < 0.5:
                return mutated(chance.choice(REQUESTS), chance)
            cookie = (
                mutated(b"Cookie: sopgw-session=abc", chance).decode("latin-1").replace("\n", "")
            )
            origin = "Origin: https://127.0.0.1"  # the host that `http` names
            kind = "Content-Type: application/x-www-form-urlencoded"
            return http("POST", "/en/login", mutated(FORM, chance), origin, kind, cookie)

        greeting = hello_of(ours)
        await at_door(
            "page TLS, the handshake", outside, lambda: mutated(greeting, chance), count // 2,
            still_good, counts, ends=True, wait_s=PAGE_S,
        )  # fmt: skip
        await at_door(
            "page TLS, inside, with accounts", inside, entering, count - count // 2,
            still_good, counts, ends=False, wait_s=PAGE_S,
        )  # fmt: skip


def hello_of(context):
    """Return the first bytes of a handshake."""
    import ssl

    to_them = ssl.MemoryBIO()
    shaking = context.wrap_bio(ssl.MemoryBIO(), to_them, server_hostname="127.0.0.1")
    try:
        shaking.do_handshake()
    except ssl.SSLWantReadError:
        return to_them.read()
    raise AssertionError("a handshake waits for the other side")


async def socket_doors(folder, count, chance, counts):
    """The operator's socket."""
    rig = await PeopleRig(members=NOBODY, mode="test").start()
    path = folder / "s.sock"
    running = asyncio.create_task(rig.socket(path).run())
    while not path.exists():
        await asyncio.sleep(0)

    async def still_good():
        assert (await ask(path, {"verb": "status"}))["ok"]

    def opening():
        return asyncio.open_unix_connection(str(path))

    def make():
        return mutated(chance.choice(LINES) + b"\n", chance)

    try:
        await at_door("socket", opening, make, count, still_good, counts, ends=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def opcua_doors(folder, count, chance, counts):
    """The OPC UA server's process."""
    view, key = made_view(), new_key()
    save(folder, "server", key, certificate(key, "urn:server"))
    save(folder / "trusted", "room", key, certificate(key, "urn:room"))
    where = OpcuaServing(
        host="127.0.0.1",
        port=0,
        certificate=folder / "server.der",
        key=folder / "server.pem",
        trusted=folder / "trusted",
    )
    (folder / "trusted" / "room.pem").unlink()
    feed = OpcuaFeed(where, lambda: view, period_s=0.2)
    running = asyncio.create_task(feed.run())
    await feed.listening.wait()

    def opening():
        return asyncio.open_connection("127.0.0.1", feed.port)

    async def still_good():
        got = await answer_of(opening, HELLO, ends=False)
        assert got[:3] == b"ACK", got[:40]
        assert feed.started_count == 1, "the server's process died"

    def make():
        return mutated(chance.choice((HELLO, HELLO + OPEN)), chance)

    try:
        await at_door("OPC UA", opening, make, count, still_good, counts, ends=True)
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


DOORS = {
    "page": page_doors,
    "page-tls": page_tls_doors,
    "socket": socket_doors,
    "opcua": opcua_doors,
    "witness": witness_doors,
    "node": node_doors,
    "market": market_doors,
    "relay": relay_door,
    **{name: file_door(name) for name in FILES},
}


async def campaign(count, seed, doors=tuple(DOORS)):
    """Try ``count`` pieces at each door; return what came of them."""
    counts = Counter()
    for name in doors:
        folder = Path(tempfile.mkdtemp())
        try:
            await DOORS[name](folder, count, random.Random(f"{seed} {name}"), counts)
        finally:
            shutil.rmtree(folder)
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--door", choices=tuple(DOORS), action="append", help="only this one")
    arguments = parser.parse_args()
    counts = asyncio.run(campaign(arguments.count, arguments.seed, arguments.door or tuple(DOORS)))
    told = {f"{door}: {what}": number for (door, what), number in sorted(counts.items())}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
