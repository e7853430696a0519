"""What each fault does to the world, and how it ends."""

import asyncio

from gateway.model.telemetry import State

WINDOWS = {
    "answers-lost": {"answer-lost": 100}, "late": {"late": 60}, "refuse": {"refused": 70},
    "garble": {"garbled": 60}, "mixed": {"lost": 10, "answer-lost": 10, "late": 10, "not-sent": 5},
}  # fmt: skip


async def carry_out(world, fault):
    """Do what the fault says and undo it after its time."""
    kind = fault.kind
    if kind in WINDOWS:
        world.network.trouble.update(WINDOWS[kind])
        await asyncio.sleep(fault.lasts_s)
        for fate in WINDOWS[kind]:
            world.network.trouble.pop(fate, None)
        world.troubled_us = world.loop.now_us
        return
    await _KINDS[kind](world, fault)


async def _cut(world, fault):
    world.network.cut = ("not-sent", "lost")[fault.size % 2]
    world.reachable_us = None
    await asyncio.sleep(fault.lasts_s)
    world.network.cut = None
    free = not world.stands_still and not world.network.severed
    world.reachable_us = world.loop.now_us if free else None


async def _unit_cut(world, fault):
    name = f"c{fault.size % 4 + 1}"
    world.network.cut_units[name] = ("not-sent", "lost", "answer-lost")[fault.size % 3]
    world.reachable_us = None
    await asyncio.sleep(fault.lasts_s)
    world.network.cut_units.pop(name, None)
    free = not world.stands_still and not world.network.severed
    world.reachable_us = world.loop.now_us if free else None


async def _unit_reboot(world, fault):
    world.plant.reboot_unit(f"T{fault.size % 3 + 2}", world.loop.now_us)


async def _unit_local(world, fault):
    terminal = f"T{fault.size % 4 + 1}"
    world.plant.local_units.add(terminal)
    await asyncio.sleep(fault.lasts_s)
    world.plant.local_units.discard(terminal)


async def _unit_frozen(world, fault):
    """One converter answers, but of then."""
    terminal = f"T{fault.size % 4 + 1}"
    if world.alive and world.station is not None:
        world.frozen_units[terminal] = world.station.units[terminal].reading()
        world.frozen_us, world.reachable_us = world.loop.now_us, None
    await asyncio.sleep(fault.lasts_s)
    world.oracle.ended_us["unit"] = world.loop.now_us
    if world.frozen_units.pop(terminal, None) is not None and not world.stands_still:
        world.reachable_us = None if world.network.severed else world.loop.now_us


async def _longer(world, fault):
    """Some outages last until somebody is told."""
    lasts_s = fault.lasts_s + (100 if fault.size % 3 == 0 else 0)
    now_s = world.loop.now_us / 1e6
    world.disturbed.append((now_s, now_s + lasts_s))
    await asyncio.sleep(lasts_s)


async def _tear(world, fault):
    world.network.torn = True
    await asyncio.sleep(fault.lasts_s)
    world.network.torn = False


async def _reboot(world, fault):
    world.plant.advance(world.loop.now_us)
    world.plant.reboot(world.loop.now_us)
    del fault


async def _held(world, fault, name, begin, end):
    world.plant.advance(world.loop.now_us)
    begin()
    world.oracle.begins(name)
    await asyncio.sleep(fault.lasts_s)
    world.oracle.ends(name)
    world.plant.advance(world.loop.now_us)
    end()


async def _local(world, fault):
    plant = world.plant

    def begin():
        plant.local = True

    def end():
        plant.local = False

    await _held(world, fault, "local", begin, end)


async def _estop(world, fault):
    plant = world.plant

    def begin():
        plant.stop_all(world.loop.now_us, State.ESTOP)
        plant.estop = True

    def end():  # a person released the button and reset the station
        plant.estop, plant.state = False, State.STANDBY

    await _held(world, fault, "estop", begin, end)


async def _fault(world, fault):
    plant = world.plant

    def begin():
        plant.stop_all(world.loop.now_us, State.FAULT)
        plant.fault_bits = 1 << fault.size % 8

    def end():
        plant.fault_bits, plant.state = 0, State.STANDBY

    await _held(world, fault, "fault", begin, end)


async def _foreign(world, fault):
    plant = world.plant
    if plant.estop or plant.fault_bits or plant.local:
        return
    plant.advance(world.loop.now_us)
    p_w = fault.size % 100_000 - 50_000
    world.foreign_us = world.loop.now_us
    plant.stranger({"T2": p_w}, 0x7F000000 | fault.size, world.loop.now_us)
    await asyncio.sleep(fault.lasts_s + 5)
    plant.advance(world.loop.now_us)
    if plant.foreign:
        plant.zero()
        plant.foreign, plant.strange_us = False, world.loop.now_us


async def _clip(world, fault):
    world.plant.advance(world.loop.now_us)
    world.plant.clip_percent, world.plant.clip_us = 60, world.loop.now_us
    await asyncio.sleep(fault.lasts_s)
    world.plant.advance(world.loop.now_us)
    world.plant.clip_percent = 100


async def _derate(world, fault):
    terminal = ("T2", "T3", "T4")[fault.size % 3]
    world.derated_us = world.loop.now_us
    world.plant.derate(terminal, 120_000 - fault.size % 80_000, world.loop.now_us)
    await asyncio.sleep(fault.lasts_s)
    world.derated_us = world.loop.now_us
    world.plant.derate(terminal, 250_000, world.loop.now_us)


async def _meters(world, fault):
    chosen = {f"T{k}" for k in range(1, 5) if fault.size >> k & 1} or {"T2"}
    world.mute_meters |= chosen
    await _longer(world, fault)
    world.mute_meters -= chosen


async def _frozen_meter(world, fault):
    """Values stand still to the digit, stamped anew at every poll."""
    await _stands_still(world, fault, noisy=False)


async def _frozen_counter(world, fault):
    """Only the counters stand still; power goes on being told."""
    await _stands_still(world, fault, noisy=True)


async def _stands_still(world, fault, *, noisy):
    terminal = ("T2", "T3", "T4")[fault.size % 3]
    lasts_s = fault.lasts_s + 45 * (fault.size % 4)
    now_s = world.loop.now_us / 1e6
    world.disturbed.append((now_s, now_s + lasts_s))
    world.plant.advance(world.loop.now_us)
    import_wh = 100_000 + int(world.plant.import_wus[terminal] / 3.6e9)
    export_wh = 100_000 + int(world.plant.export_wus[terminal] / 3.6e9)
    p_w = None if noisy else round(world.plant.p_w[terminal])
    world.frozen_meters[terminal] = (import_wh, export_wh, p_w)
    world.oracle.ended_us["frozen"] = world.loop.now_us
    await asyncio.sleep(lasts_s)
    world.frozen_meters.pop(terminal, None)


async def _frozen_station(world, fault):
    if world.alive and world.station is not None:
        world.frozen_station = world.station._telemetry()
        world.frozen_us, world.reachable_us = world.loop.now_us, None
    await asyncio.sleep(fault.lasts_s)
    _thaw(world)


def _thaw(world):
    if world.frozen_station is not None:
        world.frozen_station = None
        world.reachable_us = None if world.network.severed else world.loop.now_us


async def _quit(world, fault):
    world.restart_s = min(fault.lasts_s, 25.0)
    if world.alive:
        world.life.quit.set()


async def _crash(world, fault):
    world.restart_s = min(fault.lasts_s, 25.0)
    world.kill()


async def _crash_seam(world, fault):
    world.restart_s = min(fault.lasts_s, 10.0)
    world.crash_in_seams = fault.size % 60 + 1


async def _machine(world, fault):
    world.kill()
    world.clock.reboot()
    world.oracle.rebooted = True
    world.restart_s = max(3.0, fault.lasts_s)


async def _step(world, fault):
    step_us = (fault.size % 8_000_000) * (1 if fault.size % 2 else -1)
    if abs(step_us) < 600_000:
        step_us = 900_000
    if fault.size % 5 == 0:
        step_us *= 60
    for sign in (1, -1):  # it is put right again
        world.clock.step_us += sign * step_us
        world.oracle.stepped_us = world.loop.now_us
        world.disturbed.append((world.loop.now_us / 1e6, world.loop.now_us / 1e6 + 90))
        await asyncio.sleep(fault.lasts_s)


async def _slow_disk(world, fault):
    world.disk.fsync_us = (100_000, 200_000 + fault.size * 3)
    await asyncio.sleep(fault.lasts_s)
    world.disk.fsync_us = (1_000, 8_000)


async def _broken_disk(world, fault):
    world.disk.broken = True
    world.restart_s = 5.0
    await asyncio.sleep(min(4.0, fault.lasts_s))
    world.disk.broken = False


async def _broker(world, fault):
    market = world.market
    market.online = False
    await _longer(world, fault)
    market.online = True
    if market.link is not None:
        market.connect(market.link)


async def _stall(world, fault):
    world.stalled_mono_us.append(world.clock.mono_us())
    world.loop.now_us += min(int(fault.lasts_s * 1e6), 30_000_000)


async def _stop(world, fault):
    del fault
    await world.order("stop")


async def _mode(world, fault):
    await world.order("mode", mode="blocked")
    await asyncio.sleep(fault.lasts_s)
    await world.order("mode", mode="on")


_KINDS = {
    "cut": _cut, "tear": _tear, "reboot": _reboot, "local": _local, "estop": _estop,
    "fault": _fault, "foreign": _foreign, "clip": _clip, "derate": _derate, "meters": _meters,
    "crash": _crash, "crash-seam": _crash_seam, "machine": _machine, "step": _step,
    "slow-disk": _slow_disk, "broken-disk": _broken_disk, "broker": _broker, "stall": _stall,
    "stop": _stop, "mode": _mode, "frozen-meter": _frozen_meter,
    "unit-cut": _unit_cut, "unit-reboot": _unit_reboot, "unit-local": _unit_local,
    "unit-frozen": _unit_frozen, "frozen-counter": _frozen_counter, "frozen-station": _frozen_station, "quit": _quit,
}  # fmt: skip


def heal(world):
    """Everything is well from here on."""
    world.network.heal()
    world.mute_meters.clear()
    world.frozen_meters.clear()
    world.frozen_units.clear()
    if world.site.separate:
        world.plant.local_units.clear()
    _thaw(world)
    for t in world.site.sop.terminals:
        world.plant.derate(t.id, t.s_va, world.loop.now_us)
    world.disk.fsync_us, world.disk.broken = (1_000, 8_000), False
    world.market.online = True
    world.crash_in_seams = None
    if world.market.link is not None:
        world.market.connect(world.market.link)
