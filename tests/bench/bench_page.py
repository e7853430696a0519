"""Requests a second and CPU a request of the page, beside an aiohttp handler that answers the same
bytes without making them. Client and server are processes of their own; only the server's CPU counts.

python tests/bench/bench_page.py [--count 400]
"""

import argparse
import asyncio
import importlib.util
import multiprocessing
import statistics
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from gateway.hmi.page import Page

ROOT = Path(__file__).resolve().parents[2]
PATHS = ("/metrics", "/state.json", "/en/", "/en/trades", "/static/page.css")
AT_ONCE = 4


class NoRecords:
    async def trade_entries(self, _trade_id):
        return []

    async def latest_entries(self, _count):
        return []

    async def receipt(self, _trade_id):
        return None


def made_view():
    where = ROOT / "tests" / "gateway" / "hmi" / "conftest.py"
    spec = importlib.util.spec_from_file_location("hmi_site", where)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.made_view()


def serve(pipe, bodies):
    """Serve the page, or ``bodies`` by path, until told to stop; tell CPU seconds when asked."""

    async def main():
        if bodies is None:
            view = made_view()
            page = Page(lambda: view, NoRecords(), period_s=1.0)
            pipe.send(await page.start("127.0.0.1", 0))
        else:
            app = web.Application()

            async def answer(request):
                return web.Response(body=bodies[request.path])

            for path in bodies:
                app.router.add_get(path, answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            pipe.send(runner.addresses[0][1])
        loop = asyncio.get_running_loop()
        asked = asyncio.Queue()
        loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
        while await asked.get() == "cpu":
            pipe.send(time.process_time())
        if bodies is None:
            await page.stop()
        else:
            await runner.cleanup()

    asyncio.run(main())


class Server:
    def __init__(self, bodies=None):
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=serve, args=(theirs, bodies), daemon=True)
        self._process.start()
        self.port = self._pipe.recv()

    def cpu_s(self):
        self._pipe.send("cpu")
        return self._pipe.recv()

    def stop(self):
        self._pipe.send("stop")
        self._process.join()


async def fetched(port, path):
    address = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(address) as answer:
        assert answer.status == 200, (path, answer.status)
        return await answer.read()


async def flood(port, path, count):
    async with aiohttp.ClientSession() as session:

        async def some():
            for _ in range(count // AT_ONCE):
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    await answer.read()

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def measured(server, path, count):
    """Return requests a second and µs of the server's CPU a request."""
    cpu_s, began_s = server.cpu_s(), time.perf_counter()
    asyncio.run(flood(server.port, path, count))
    took_s = time.perf_counter() - began_s
    return count / took_s, (server.cpu_s() - cpu_s) / count * 1e6


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    page = Server()
    bodies = {path: asyncio.run(fetched(page.port, path)) for path in PATHS}
    plain = Server(bodies)
    print("| address | bytes | requests/s | CPU µs a request | plain handler, CPU µs | ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for path in PATHS:
        rows = [
            (measured(page, path, arguments.count), measured(plain, path, arguments.count))
            for _ in range(arguments.rounds)
        ]
        rate = statistics.median(ours[0] for ours, _ in rows)
        ours, rival = (statistics.median(r[k][1] for r in rows) for k in (0, 1))
        size = len(bodies[path])
        print(
            f"| `{path}` | {size:,} | {rate:,.0f} | {ours:.0f} | {rival:.0f} | {ours / rival:.1f} |"
        )
    page.stop()
    plain.stop()


if __name__ == "__main__":
    main()
