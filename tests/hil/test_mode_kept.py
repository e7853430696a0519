"""What a person said at the socket outlives a crash of the gateway."""

import asyncio
import sys

from fakes.rig import Rig


async def sopgw(*words):
    done = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", *words)
    assert await done.wait() == 0


async def test_a_mode_set_by_a_person_outlives_a_crash_and_not_an_orderly_end(tmp_path):
    rig = Rig(tmp_path, factor=5)
    async with rig.up():
        await rig.until(lambda s: s["state"] == "READY")
        await sopgw("mode", "set", "blocked", "--yes", "-c", str(rig.site))
        assert (await rig.status())["mode"] == "blocked"
        await rig.kill()
        await rig.start()
        assert (await rig.status())["mode"] == "blocked"
        assert "mode blocked instead of on" in rig.log.read_text()
        await rig.stop()
        await rig.start()
        assert (await rig.status())["mode"] == "on"
