"""Bugs put into the gateway on purpose: each is one small patch that the oracle must find."""

import contextlib
from dataclasses import replace
from unittest.mock import patch

from gateway.core import decide, interlock, planning, readback, setpoints, verify
from gateway.core import state as state_module
from gateway.core.records import Failed
from gateway.devices.converters import Converters
from gateway.runtime.alarms import AlarmWatch
from gateway.runtime.desk import TradeDesk
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.loop import Scan
from gateway.runtime.telemetry import Heartbeat, StationPoller

from .edges import SimStation
from .machine import MemoryJournal

_wanted, _admit, _plans_due = setpoints.wanted, verify.admit, planning.plans_due
_permissives, _station_reasons = interlock.permissives, interlock.station_reasons
_delivery_fields, _scan = planning.delivery_fields, decide.scan


async def _append_at_once(self, kind, fields):
    """Skip the durable wait: the entry counts before the disk has it."""
    entry = {
        **fields, "kind": kind, "utc_us": self._clock.utc_us(), "mono_us": self._clock.mono_us(),
        "boot": self.boot_number, "tq": self.time_quality(),
    }  # fmt: skip
    from ledger.log.canonical import encode

    self._waiting.append((encode(entry), entry, self._loop_future()))
    index = self._disk.size + len(self._flushing) + len(self._waiting) - 1
    if not self._flushing:
        self._flush()
    return index, entry


def _loop_future(self):
    import asyncio

    del self
    return asyncio.get_running_loop().create_future()


def _times(factor_percent):
    def wanted(state, **named):
        found = _wanted(state, **named)
        if found.setpoints is None:
            return found
        return replace(
            found, setpoints={t: p * factor_percent // 100 for t, p in found.setpoints.items()}
        )

    return wanted


def _without(*codes):
    def permissives(*arguments, **named):
        return tuple(r for r in _permissives(*arguments, **named) if r.code.value not in codes)

    return permissives


def _forgetful_admit(trade, **named):
    return _admit(trade, **(named | {"known": {}}))


def _lax_admit(trade, **named):
    policy = replace(named["policy"], gate_ms=-(10**9))
    return _admit(trade, **(named | {"policy": policy, "planned_ms": ()}))


async def _acknowledge_first(self):
    import asyncio

    from gateway.runtime.desk import received_fields

    while True:
        try:
            inbound = self._market.inbox.get_nowait()
        except asyncio.QueueEmpty:
            return
        await self._market.acknowledge(inbound)
        await self._recorder.record("trade.received", **received_fields(inbound))


async def _no_read_back(self, instruction, intent_index):
    from gateway.model.setpoint import Ack

    if await self._station.select(instruction) is not Ack.ACCEPTED:
        await self._record("abort", intent_index, instruction, reasons=[])
        return False
    await self._record("prepared", intent_index, instruction)
    return True


def _always_confirmed(*, setpoints, instr_id, master, station, **_):
    return readback.Confirmed(active=readback.active_setpoints(station))


async def _conclude_blindly(self, instruction, intent_index, ack):
    del ack
    held = {s.terminal: s.p_w for s in instruction.setpoints}
    await self._record(
        "outcome", intent_index, instruction, outcome="executed", active=held, reasons=[]
    )


async def _operate_twice(self, instruction):
    from gateway.model.errors import OutcomeUnknown

    try:
        return await _operate(self, instruction)
    except OutcomeUnknown:
        self._mine = instruction
        return await _operate(self, instruction)


_operate = SimStation.operate
_record = Dispatcher._record
_beat_alive = Heartbeat.__init__


async def _record_without_commit(self, kind, intent_index, instruction, **fields):
    if kind != "commit":
        await _record(self, kind, intent_index, instruction, **fields)


def _beats_for_ever(self, **named):
    _beat_alive(self, **(named | {"alive": lambda: True}))
    named["poller"].configured = True


def _short_life(*, extra_s):
    def write(values, authority, plan_index, end_ms, utc_ms):
        found = _write(values, authority, plan_index, end_ms, utc_ms)
        return replace(found, ttl_s=found.ttl_s + extra_s)

    return write


_write = setpoints._write


def _fold_without(kind):
    folds = {k: v for k, v in state_module._FOLDS.items() if k != kind}
    return patch.object(state_module, "_FOLDS", folds)


def _plan_more(state, **named):
    found = []
    for plan in _plans_due(state, **named):
        trades = [dict(t, planned_wh=t["planned_wh"] + 1) for t in plan.fields["trades"]]
        found.append(replace(plan, fields={**plan.fields, "trades": trades}))
    return found


def _deliver_more(state, record):
    fields = _delivery_fields(state, record)
    trades = [dict(t, delivered_wh=t["delivered_wh"] + 1) for t in fields["trades"]]
    return {**fields, "trades": trades}


def _no_notice(state, station):
    return None


def _no_settle(state, station):
    return ()


def _swap(state, **named):
    found = _wanted(state, **named)
    if found.setpoints is None:
        return found
    values = dict(found.setpoints)
    values["T2"], values["T3"] = values["T3"], values["T2"]
    return replace(found, setpoints=values)


def _whole_change(state, target_w, **_):
    return dict(target_w)


def _on(target, name, value):
    return lambda: patch.object(target, name, value)


@contextlib.contextmanager
def _undurable():
    with (
        patch.object(MemoryJournal, "append", _append_at_once),
        patch.object(MemoryJournal, "_loop_future", _loop_future, create=True),
    ):
        yield


PLANTED = {
    "the durable wait is skipped": _undurable,
    "wrong sign": _on(setpoints, "wanted", _times(-100)),
    "a tenth too much": _on(setpoints, "wanted", _times(150)),
    "a tenth of it": _on(setpoints, "wanted", _times(10)),
    "two terminals swapped": _on(setpoints, "wanted", _swap),
    "emergency stop ignored": _on(interlock, "permissives", _without("estop", "state", "fault")),
    "local ignored": _on(interlock, "permissives", _without("local")),
    "fault ignored": _on(interlock, "permissives", _without("fault", "state")),
    "watchdog not armed": _on(interlock, "permissives", _without("watchdog")),
    "time quality ignored": _on(interlock, "permissives", _without("time_quality")),
    "duplicates accepted": _on(verify, "admit", _forgetful_admit),
    "the gate ignored": _on(verify, "admit", _lax_admit),
    "acknowledged before durable": _on(TradeDesk, "take_in", _acknowledge_first),
    "staged block not read back": _on(Dispatcher, "_prepare", _no_read_back),
    "derating is a difference": _on(readback, "carries_all_it_can", lambda *_: False),
    "echo not compared": _on(readback, "judge", _always_confirmed),
    "outcome not read": _on(Dispatcher, "_conclude", _conclude_blindly),
    "sent again after unknown": _on(SimStation, "operate", _operate_twice),
    "operated without commit": _on(Dispatcher, "_record", _record_without_commit),
    "beats though nobody thinks": _on(Heartbeat, "__init__", _beats_for_ever),
    "setpoints live an hour": _on(setpoints, "_write", _short_life(extra_s=3600)),
    "unknown outcomes stay open": _on(decide, "_settle", _no_settle),
    "strangers go unnoticed": _on(decide, "_notice", _no_notice),
    "verdicts forgotten": lambda: _fold_without("trade.accepted"),
    "plans forgotten": lambda: _fold_without("plan"),
    "deliveries forgotten": lambda: _fold_without("delivery"),
    "a Wh too much planned": _on(planning, "plans_due", _plan_more),
    "a Wh too much delivered": _on(planning, "delivery_fields", _deliver_more),
    "messages never decided": _on(TradeDesk, "decide_open", lambda self, **_: _nothing(self)),
    "never closed": _on(setpoints, "_longest_ms", lambda *_: -60_000),
    "standing values believed": _on(StationPoller, "_judged", lambda self, seen: seen),
    "alarms never looked for": _on(AlarmWatch, "look", lambda self: _nothing(self)),
    "left as it stood": _on(Scan, "safe_stop", lambda self, why: _nothing(self)),
    "cut in silence, left alone": _on(Failed, "is_held", lambda *_: False),
    "every step at once": _on(setpoints, "step_toward", _whole_change),
    "no wait for a step's ramp": _on(decide, "_steps_on", lambda *_: False),
    "one fell, the others go on": _on(Converters, "_watch", lambda *_: None),
    "clock steps unseen": _on(Scan, "_watch_time", lambda self: _nothing(self)),
}


SEPARATE = {"every step at once", "no wait for a step's ramp", "one fell, the others go on"}
"""These are bugs of a site whose terminals have controllers of their own."""


async def _nothing(self):
    del self
