"""The whole gateway on a site whose terminals have controllers of their own, over the wire."""

import asyncio
import json
import sys

import pytest
from fakes.promises import broken
from fakes.rig import Rig

pytestmark = pytest.mark.timeout(300)  # they wait more than they work: beside others


async def sopgw(rig, *arguments):
    """Run a command as a person beside the gateway would; its exit code and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, "-c", str(rig.site), "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    return process.returncode, json.loads(out)["data"]


async def test_four_converters_become_one_ready_soft_open_point(tmp_path):
    rig = Rig(tmp_path, factor=1, separate=True)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        status = await rig.status()
        assert [t["id"] for t in status["terminals"]] == ["T1", "T2", "T3", "T4"]
        assert [t["master"] for t in status["terminals"]] == [True, False, False, False]
        assert status["v_dc_dv"] > 7000
        code, told = await sopgw(rig, "status")
        assert (code, told["state"]) == (0, "READY")
        _, told = await sopgw(rig, "doctor", "converters")
        assert {c["status"] for c in told["checks"]} == {"ok"}, told
        armed = [c["text"] for c in told["checks"] if c["id"].endswith(".reversion")]
        assert len(armed) == 4
    entries = rig.entries()
    (config,) = [e["config"] for e in entries if e["kind"] == "config"]
    assert config["separate"] is True
    assert list(broken(entries)) == []
