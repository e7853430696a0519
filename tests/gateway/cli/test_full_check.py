"""The daily check of the ledger: a real child over a real ledger, good and then changed."""

import asyncio

from gateway.cli.full_check import EVERY_US, FullCheck
from ledger.log.keys import create_key
from ledger.log.writer import LedgerWriter


class Clock:
    """Gives way once to each sleep, then for ever."""

    def __init__(self, sleeps):
        self.now_us, self.sleeps = 0, sleeps

    def utc_us(self):
        return 7_000_000

    def mono_us(self):
        return self.now_us

    def at_least(self, real_us):
        return real_us

    async def sleep_until(self, mono_us):
        if not self.sleeps:
            await asyncio.Event().wait()
        self.sleeps -= 1
        self.now_us = mono_us


async def test_a_changed_byte_is_told_at_the_next_check_and_no_verdict_changes_nothing(tmp_path):
    signer = create_key(tmp_path / "key", "gw.example/l")
    folder = tmp_path / "ledger"
    writer = LedgerWriter.open(folder, signer=signer, origin="gw.example/l")
    await writer.append_many([b'{"kind":"note","n":%d}' % n for n in range(5)])
    await writer.close()
    check = FullCheck(directory=folder, vkey=signer.vkey, clock=Clock(0))
    await check.check()
    assert check.last == (7_000_000, True)
    (segment,) = (folder / "segments").glob("*.seg")
    raw = segment.read_bytes()
    segment.write_bytes(raw.replace(b'"n":3', b'"n":4', 1))
    await check.check()
    assert check.last == (7_000_000, False)
    await FullCheck(directory=tmp_path / "none", vkey=signer.vkey, clock=Clock(0)).check()
    check._directory = tmp_path / "none"
    await check.check()
    assert check.last == (7_000_000, False)


async def test_it_waits_for_a_day_and_ends_when_told(tmp_path, monkeypatch):
    done = []

    async def checked(self):
        done.append(self._clock.now_us)

    monkeypatch.setattr(FullCheck, "check", checked)
    clock = Clock(3)
    task = asyncio.create_task(FullCheck(directory=tmp_path, vkey="", clock=clock).run())
    async with asyncio.timeout(60):
        while len(done) < 3:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert done[2] - done[1] == done[1] - done[0] == EVERY_US


async def test_a_check_that_fails_is_made_again_the_next_day(tmp_path, monkeypatch, caplog):
    failing, done = [OSError(28, "No space left on device"), TimeoutError()], []

    async def checked(self):
        done.append(self._clock.now_us)
        if len(done) <= len(failing):
            raise failing[len(done) - 1]

    monkeypatch.setattr(FullCheck, "check", checked)
    task = asyncio.create_task(FullCheck(directory=tmp_path, vkey="", clock=Clock(3)).run())
    while len(done) < 3 and not task.done():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert [at - done[0] for at in done] == [0, EVERY_US, 2 * EVERY_US]
    assert caplog.text.count("the daily check of the ledger came to no end") == 2
