"""A plain server beside the gateway in a soak: always the same work, so what changes is the machine.

It answers a line with a line as the control socket does, works ten times a second as a scan does,
and keeps nothing. Usage: ``plain_answers.py SOCKET``; it ends with its standard input.
"""

import asyncio
import contextlib
import json
import sys

STEPS = 20_000  # about a millisecond of Python: what a status, or a scan with its entries, takes
ANSWER = json.dumps({"terminals": [{"id": f"T{k}", "p_w": k} for k in range(150)]}).encode()


def work():
    """The same for ever."""
    total = 0
    for k in range(STEPS):
        total += k * k % 7
    return total


async def answer(reader, writer):
    with contextlib.suppress(ConnectionError):
        while await reader.readline():
            work()
            writer.write(ANSWER + b"\n")
            await writer.drain()
    writer.close()


async def scan():
    while True:
        work()
        await asyncio.sleep(0.1)


async def main(path):
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = await asyncio.start_unix_server(answer, path)
    scanning = asyncio.ensure_future(scan())
    print("listening", flush=True)
    await reader.read()
    scanning.cancel()
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
