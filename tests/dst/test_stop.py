"""A stop is on the wire within a second in every state, with a dead disk and a dead broker."""

import asyncio
import logging

import pytest
from dst.faults import Fault
from dst.loop import run_virtual
from dst.world import Setting, World

HANGS, FAILS, WORKS = "hangs", "fails", "works"
START_S = 180.0  # an interval with a trade begins
FAULTS = {
    "local": (Fault(190.0, "local", 60.0, 1),),
    "cut before": (Fault(188.0, "cut", 2.0, 2),),
    "late answers": (Fault(178.0, "answers-lost", 20.0, 1),),
}


@pytest.fixture(autouse=True)
def quiet_log():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def stopped(at_s, *, disk=HANGS, broker_dead=True, faults=(), separate=False):
    """Order a stop at an instant; return what the plant heard and held within a second of it."""
    kept = {}

    async def main(loop):
        world = World(
            Setting(
                seed=4,
                minutes=10,
                length_s=60,
                faults=faults,
                mischief=False,
                rearm="auto",
                separate=separate,
            ),
            loop,
        )
        running = asyncio.ensure_future(world.run())
        await asyncio.sleep(at_s)
        kept["state"] = world.recorder.state.moments[-1].state
        kept["moved"] = any(world.plant.set_w.values())
        kept["before"] = {t.id: world.plant.set_w[t.id] != 0 for t in world.plant.slaves}
        if disk == HANGS:
            world.disk.fsync_us = (10**12, 10**12)
        elif disk == FAILS:
            world.disk.broken = True
        if broker_dead:
            world.market.online = False
            world.market.disconnect()
        asked_us = loop.now_us
        ordering = asyncio.ensure_future(world.order("stop"))
        await asyncio.sleep(1.0)
        kept["heard"] = [
            t for t in world.trace
            if int(t.split()[0]) >= asked_us and "command ENTER_STANDBY" in t
        ]  # fmt: skip
        kept["still"] = any(world.plant.set_w.values())
        kept["powers"] = {t.id: world.plant.set_w[t.id] != 0 for t in world.plant.slaves}
        for task in (ordering, running):
            task.cancel()
        await asyncio.gather(ordering, running, return_exceptions=True)

    run_virtual(main)
    return kept


INSTANTS = (2.0, 60.0, 160.0, 179.5, *(179.98 + k / 100 for k in range(8)), 183.0, 200.0, 236.5)


def test_in_every_state_with_a_disk_that_hangs_and_no_broker():
    found = [stopped(at_s) for at_s in INSTANTS]
    assert all(f["heard"] for f in found)
    assert not any(f["still"] for f in found)
    assert {"READY", "ARMED", "EXECUTING"} <= {f["state"] for f in found}
    assert any(f["moved"] for f in found)


@pytest.mark.parametrize("disk", [WORKS, FAILS])
@pytest.mark.parametrize("broker_dead", [False, True])
def test_while_power_flows_whatever_the_disk_and_the_broker_do(disk, broker_dead):
    found = stopped(200.0, disk=disk, broker_dead=broker_dead)
    assert found["moved"]
    assert found["heard"]
    assert not found["still"]


@pytest.mark.parametrize("name", FAULTS)
def test_under_faults_of_the_field_the_stop_is_sent_and_tried_again(name):
    found = stopped(195.0, faults=FAULTS[name])
    assert found["heard"]
    if name == "local":
        assert "REJECTED_LOCAL" in found["heard"][0]  # who stands at the station decides
    else:
        assert not found["still"]


def test_where_each_terminal_has_a_controller_all_are_told_at_once():
    found = [stopped(at_s, separate=True) for at_s in (160.0, 180.1, 182.5, 200.0, 236.5)]
    assert all(f["heard"] for f in found)
    assert not any(f["still"] for f in found)
    assert any(f["moved"] for f in found)


def test_a_controller_out_of_reach_keeps_no_other_from_the_stop():
    cut = (Fault(439.0, "unit-cut", 30.0, 6),)  # the way to T3
    found = stopped(440.0, faults=cut, separate=True)
    assert all(found["before"].values())
    assert found["heard"]
    assert {t for t, moves in found["powers"].items() if moves} == {"T3"}
