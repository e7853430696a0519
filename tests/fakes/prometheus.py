"""A real Prometheus on loopback: it reads one gateway and answers questions by its HTTP API."""

import asyncio
import contextlib
import os
from pathlib import Path

import aiohttp

LISTENING = "0A"  # the state of /proc/net/tcp


class Prometheus:
    """One running Prometheus; ``ask`` gives the series that an expression has now."""

    def __init__(self, session):
        self.session = session

    async def get(self, path, **params):
        async with self.session.get(f"/api/v1/{path}", params=params) as response:
            told = await response.json()
        assert told["status"] == "success", (params, told)
        return told["data"]

    async def ask(self, expression):
        return (await self.get("query", query=expression))["result"]

    async def until_known(self, expression, within_s=60):
        end_s = asyncio.get_running_loop().time() + within_s
        while not (found := await self.ask(expression)):
            assert asyncio.get_running_loop().time() < end_s, f"no data for {expression}"
            await asyncio.sleep(0.05)
        return found


@contextlib.asynccontextmanager
async def reading(program, folder, *, target, rules):
    """Start Prometheus on a port of the system's choice; it scrapes ``target`` as job sopgw."""
    folder = Path(folder)
    (folder / "rules.yaml").write_text(rules)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
        "rule_files: [rules.yaml]\n"
        "scrape_configs:\n- job_name: sopgw\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{target}']\n"
    )
    log = folder / "prometheus.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:0",
            stdout=asyncio.subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while (port := listening_port(process.pid)) is None:
                assert process.returncode is None, log.read_text()[-2000:]
                await asyncio.sleep(0.05)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            async with asyncio.timeout(60):
                while True:  # until its rules and its store are loaded it answers 503
                    async with session.get("/-/ready") as response:
                        if response.status == 200:
                            break
                    await asyncio.sleep(0.05)
            yield Prometheus(session)
    finally:
        process.terminate()
        await process.wait()


def listening_port(pid):
    """Return the loopback TCP port that a process listens on; None while there is none."""
    own = set()
    with contextlib.suppress(OSError):  # a file closed meanwhile, or the process has ended
        own = {os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")}
    for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = row.split()
        if fields[3] == LISTENING and f"socket:[{fields[9]}]" in own:
            return int(fields[1].rpartition(":")[2], 16)
    return None
