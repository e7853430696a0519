"""A stop that waits as a file is taken once, by an entry, and nothing but that ends it."""

import asyncio
import json
import os

import pytest
from fakes.people_rig import ENGINEER, PeopleRig

from gateway.core.access import Person
from gateway.model.errors import JournalError
from gateway.runtime.latch import FILE, LOOK_US, StopLatch, leave

BY_HAND = {"setpoints": {"T2": 10_000}, "for_ms": 600_000}


@pytest.fixture
def path(tmp_path):
    return tmp_path / FILE


class Latched(PeopleRig):
    """A gateway's people's side with the latch wired as the program does it."""

    def latch(self, path):
        def stop(user):
            return self.orders.carry_out("stop", Person(user=user, roles=frozenset()), {})

        return StopLatch(path, stop=stop, clock=self.clock)


async def test_a_stop_that_was_left_is_an_entry_zero_and_no_power_until_armed(path):
    rig = await Latched().start()
    await rig.orders.carry_out("setpoint", ENGINEER, BY_HAND)
    await rig.scans(2)
    assert rig.scan.state.held["T2"] == 10_000
    leave(path, user="uid:1000")
    await rig.latch(path).take()
    assert not path.exists()
    (entry,) = rig.entries("operator", verb="stop")
    assert entry["user"] == "uid:1000"
    await rig.scans(3)
    assert rig.scan.state.armed is False
    assert not any(rig.scan.state.held.values())
    assert not any(t.p_w_set_active for t in rig.poller.last.terminals)
    await rig.orders.carry_out("arm", ENGINEER, {})
    await rig.latch(path).take()
    assert rig.scan.state.armed is True, "it stops once"


async def test_a_stop_that_was_left_ends_a_loan(path):
    rig = await Latched().start()
    await rig.orders.carry_out("borrow", ENGINEER, {"words": "sopgw test step"})
    never = asyncio.Event()

    async def lines():
        await never.wait()
        return b""

    async def say(_answer):
        pass

    lending = asyncio.ensure_future(rig.orders.lend(ENGINEER, lines, say))
    assert rig.orders.lent() == "uid:1: sopgw test step"
    leave(path, user="uid:1000")
    await rig.latch(path).take()
    await lending
    assert rig.orders.lent() == ""
    assert rig.entries("operator", verb="control.lost")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"user": 7}', b'{"user": "ann"}', b"[" * 4096]
)
async def test_whatever_stands_in_the_file_it_stops(path, content):
    rig = await Latched().start()
    path.write_bytes(content)
    await rig.latch(path).take()
    (entry,) = rig.entries("operator", verb="stop")
    assert entry["user"] == f"uid:{os.getuid()}", "whose file it is"
    assert not path.exists()


async def test_another_stop_left_meanwhile_is_not_lost(path):
    orders = []

    async def stop(user):
        orders.append(user)
        if len(orders) == 1:
            leave(path, user="uid:2")  # and somebody may have armed between the two

    latch = StopLatch(path, stop=stop, clock=None)
    leave(path, user="uid:1")
    await latch.take()
    await latch.take()
    await latch.take()
    assert orders == ["uid:1", "uid:2"]
    assert not path.exists()


async def test_a_file_that_cannot_be_removed_stops_once_not_every_second(tmp_path):
    orders = []

    async def stop(user):
        orders.append(user)

    folder = tmp_path / FILE
    folder.mkdir()  # not to be unlinked, whoever tries
    latch = StopLatch(folder, stop=stop, clock=None)
    await latch.take()
    await latch.take()
    assert len(orders) == 1


async def test_it_looks_again_and_again(path):
    rig, orders = Latched(), asyncio.Queue()
    latch = StopLatch(path, stop=orders.put, clock=rig.clock)
    looking = asyncio.ensure_future(latch.run())
    async with asyncio.timeout(60):
        for user in ("uid:1", "uid:2"):
            leave(path, user=user)
            while orders.empty():
                rig.clock.move(LOOK_US / 1e6)
                await asyncio.sleep(0)
            assert await orders.get() == user
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)


def test_what_is_left_can_be_read_by_whoever_runs_the_gateway_and_nothing_else_stays(path):
    before = os.umask(0o077)
    try:
        leave(path, user="uid:1")
        leave(path, user="uid:2")
    finally:
        os.umask(before)
    assert [p.name for p in path.parent.iterdir()] == [FILE]
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.read_text())["user"] == "uid:2"


def test_where_it_cannot_be_written_whoever_left_it_is_told(path):
    with pytest.raises(OSError, match="No such file"):
        leave(path.parent / "missing" / FILE, user="uid:1")


async def test_a_stop_that_ends_in_a_defect_is_not_taken_again_at_every_start(path):
    async def broken(_user):
        raise ValueError("a defect of the driver")

    leave(path, user="uid:1000")
    with pytest.raises(ValueError, match="defect"):
        await StopLatch(path, stop=broken, clock=Latched().clock).take()
    assert not path.exists()


async def test_a_stop_that_no_ledger_took_waits_for_the_next_start(path):
    async def full(_user):
        raise JournalError("no space left")

    leave(path, user="uid:1000")
    with pytest.raises(JournalError):
        await StopLatch(path, stop=full, clock=Latched().clock).take()
    assert path.exists()
