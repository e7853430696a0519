"""The scan: observe, decide, act, at its own pace.

A scan freezes a process image, asks the core once and carries out what it answered. Whatever
dies here takes the gateway to the safe setpoint and out (law 10).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, assert_never

from gateway.core import decide, planning
from gateway.core.dispatch import Phase
from gateway.core.interlock import STALE_US
from gateway.core.setpoints import TTL_MARGIN_S
from gateway.core.state import STEP_US, State
from gateway.core.stepped import STEPS_MAX
from gateway.model.errors import DeviceError, JournalError
from gateway.model.reason import Reason, ReasonCode
from gateway.model.telemetry import State as StationState
from gateway.ports import Clock, Market, Station
from gateway.runtime.desk import TradeDesk
from gateway.runtime.dispatch import Dispatcher
from gateway.runtime.recorder import Recorder
from gateway.runtime.surroundings import Outlook, Surroundings
from gateway.runtime.telemetry import StationPoller

log = logging.getLogger(__name__)

LAG_US_MAX = 2_000_000  # a scan older than this stops the heartbeat
STALE_REAL_US = 1_000_000  # never call telemetry stale before this much real time
FAILSAFE_BY_WORD = {"ramp_zero": 1, "block": 3}  # FAILSAFE register, station map v1
ROUNDS_MAX = 16  # decisions in one scan: each round must have written something down


class Scan:
    """One SOP's control loop."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        clock: Clock,
        station: Station,
        poller: StationPoller,
        dispatcher: Dispatcher,
        desk: TradeDesk,
        market: Market,
        period_us: int,
        watchdog_ds: int,
        on_loss: str = "ramp_zero",
    ) -> None:
        self.scans_count = 0
        self._recorder = recorder
        self._clock = clock
        self._station = station
        self._poller = poller
        self._dispatcher = dispatcher
        self._desk = desk
        self._market = market
        self._period_us = period_us
        self._watchdog_ds = watchdog_ds
        self._failsafe = FAILSAFE_BY_WORD[on_loss]
        self._last_mono_us = clock.mono_us()
        self.ended_us = clock.utc_us()
        """UTC of the end of the last scan; of the start before the first one has ended."""
        self._woken = asyncio.Event()
        self._lent = False
        self.around: Surroundings | None = None
        self._outlook = Outlook()
        dispatcher.permitted = self._permitted

    @property
    def state(self) -> State:
        """The state as of the last folded entry."""
        return self._recorder.state

    @property
    def lead_us(self) -> int:
        """What a dispatch took lately."""
        return self._dispatcher.lead_us

    def alive(self) -> bool:
        """Tell whether a scan ended lately; without it the heartbeat stops."""
        allowed_us = max(LAG_US_MAX, self._clock.at_least(LAG_US_MAX // 2))
        return self._clock.mono_us() - self._last_mono_us <= allowed_us

    def beats(self) -> bool:
        """Tell whether the sign of life is ours to give: not while control is lent."""
        return self.alive() and not self._lent

    def lend(self) -> None:
        """Command nothing until ``take_back``: somebody else holds control."""
        self._lent = True

    async def take_back(self) -> None:
        """Hold control again; the station's watchdog is armed anew before anything is moved."""
        await self._poller.poll()  # what was seen before is not what it holds now
        self._lent = False
        self._poller.configured = False
        self.wake()

    @property
    def stale_after_us(self) -> int:
        """From this age on telemetry says nothing about now."""
        return max(STALE_US, self._clock.at_least(STALE_REAL_US))

    def obstacles(self) -> tuple[Reason, ...]:
        """Return why no power may be commanded now."""
        return decide.blocking(self.state, self._image())

    def wake(self) -> None:
        """Scan at once: something came in."""
        self._woken.set()

    async def run(self) -> None:
        """Scan until cancelled."""
        due_us = self._clock.mono_us()
        while True:
            wake_ms = await self.once()
            now_us = self._clock.mono_us()
            due_us = max(due_us + self._period_us, now_us)
            if wake_ms:
                due_us = min(due_us, now_us + max(0, wake_ms * 1000 - self._clock.utc_us()))
            await self._wait_until(due_us)

    async def once(self) -> int:
        """Do one scan; return when to look again (UTC ms, 0: at the usual pace)."""
        await self._watch_time()
        if self.around is not None:
            self._outlook = self.around.look()
        if self._outlook.takes_in:
            await self._desk.take_in()
        await self._desk.decide_open(time_quality=self.time_quality())
        wake_ms = 0
        for _ in range(0 if self._lent else ROUNDS_MAX):
            image = self._image()
            decision = decide.scan(self.state, image)
            size = self.state.size
            for action in decision.actions:
                await self._act(action, image)
            wake_ms = decision.wake_ms
            again = wake_ms and wake_ms <= image.utc_ms and self.state.size > size
            if not again:
                break
        self.scans_count += 1
        self._last_mono_us = self._clock.mono_us()
        self.ended_us = self._clock.utc_us()
        return wake_ms

    async def _wait_until(self, due_us: int) -> None:
        waiting = asyncio.ensure_future(self._woken.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep_until(due_us))
        try:
            await asyncio.wait((waiting, sleeping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()
            await asyncio.gather(waiting, sleeping, return_exceptions=True)
        self._woken.clear()

    def _permitted(self) -> bool:
        """Tell whether power may still be commanded; the open instruction itself is no obstacle."""
        reasons = decide.blocking(self.state, self._image())
        return all(r.code is ReasonCode.DEVICE_UNKNOWN for r in reasons)

    def _image(self) -> decide.Image:
        return decide.Image(
            utc_us=self._clock.utc_us(),
            mono_us=self._clock.mono_us(),
            time_quality=self.time_quality(),
            station=self._poller.last,
            station_age_us=self._poller.age_us(),
            link_up=self._poller.link_up,
            configured=self._poller.configured,
            lead_us=self._dispatcher.lead_us,
            around=self._outlook.reasons,
            stale_after_us=self.stale_after_us,
            ttl_margin_s=max(TTL_MARGIN_S, self._clock.at_least(STALE_REAL_US) // 1_000_000),
        )

    def time_quality(self) -> str:
        """Quality of UTC as the entries carry it: a step spoils it for a while."""
        quality = self._clock.quality()
        calm = self.state.calm(self._clock.mono_us())
        return quality if calm or quality != "good" else "degraded"

    async def _watch_time(self) -> None:
        offset_us = self._clock.utc_us() - self._clock.mono_us()
        before_us = self.state.offset_us
        # The two clocks are read one after the other: a stall between them is no step.
        step_us_min = max(STEP_US, self._clock.at_least(STEP_US))
        if before_us is not None and abs(offset_us - before_us) > step_us_min:
            await self._recorder.record("time_step", step_us=offset_us - before_us)
        elif abs(self.state.glitch_us) > step_us_min:  # there and back between two scans
            await self._recorder.record("time_step", step_us=-self.state.glitch_us)

    async def _act(self, action: decide.Action, image: decide.Image) -> None:
        match action:
            case decide.Settle():
                station = image.station
                assert station is not None
                state_name = StationState(station.state).name
                await self._dispatcher.settle(action, station.instruction_id, state_name)
            case decide.ReadBack():
                await self._recorder.record(
                    "readback",
                    sop=self.state.site.sop.id,
                    instr_id=action.instr_id,
                    active=dict(action.active),
                    state=action.station_state,
                    cause=action.cause,
                )
            case decide.ChangeState():
                await self._change_state(action)
            case decide.Configure():
                done = await self._dispatcher.configure(
                    watchdog_ds=self._watchdog_ds, failsafe=self._failsafe
                )
                self._poller.configured = done
                await self._poller.poll()
            case decide.StationCommand():
                await self._dispatcher.command(action.command, "configure")
                await self._poller.poll()
            case decide.MakePlan():
                await self._recorder.record("plan", **action.plan.fields)
            case decide.Deliver():
                await self._recorder.settled()  # a reading under way will stand before it
                fields = planning.delivery_fields(self.state, action.record)
                index = await self._recorder.record("delivery", **fields)
                await self._desk.report(index, fields)
            case decide.Dispatch():
                await self._dispatcher.dispatch(action, self._image_fields(image))
                await self._poller.poll()
            case _:
                assert_never(action)

    def _image_fields(self, image: decide.Image) -> dict[str, Any]:
        """Write what the decision saw besides the ledger, so that it can be made again from it."""
        station = image.station
        assert station is not None
        fields = {
            "utc_us": image.utc_us,
            "mono_us": image.mono_us,
            "station_mono_us": station.mono_us,
            "lead_us": image.lead_us,
            "s_va_available": {t.id: t.s_va_available for t in station.terminals},
            "p_w": {t.id: t.p_w for t in station.terminals},
            "v_dv": {t.id: t.v_dv for t in station.terminals},
            "v_dc_dv": station.v_dc_dv,
            "loss_w": station.loss_w,
            "station_state": StationState(station.state).name,
        }
        if self.state.site.separate:
            fields["p_w_set_active"] = {t.id: t.p_w_set_active for t in station.terminals}
        return fields

    async def _change_state(self, action: decide.ChangeState) -> None:
        reasons = [r.fields() for r in action.reasons]
        await self._recorder.record(
            "mode", mode=self.state.mode, state=action.state, reasons=reasons
        )
        log.info("state=%s reasons=%s", action.state, [r.text() for r in action.reasons])
        body = {"mode": self.state.mode, "state": action.state, "reasons": reasons}
        await self._market.tell("state", body)

    async def start(self, *, boot_fields: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Write the boot and what the configuration says before anything else happens."""
        mode = config["mode"]
        await self._recorder.record("boot", **boot_fields)
        await self._recorder.record("config", sha256=config["sha256"], config=config["config"])
        if self.state.mode != mode:
            await self._recorder.record("mode", mode=mode, state="INIT", reasons=[])
        await self._desk.say_again()

    async def operator(self, *, verb: str, user: str, arguments: Mapping[str, Any]) -> str:
        """Carry out what an operator asked for; return what came of it."""
        outcome = "done"
        try:
            if verb == "stop":
                outcome = await self._dispatcher.stop_now()
        except Exception:  # a defect of a driver: that a stop was ordered stands all the same
            await self.note(user=user, verb=verb, arguments=arguments)
            raise
        await self.note(user=user, verb=verb, arguments=arguments)
        if verb == "mode":
            await self._recorder.record(
                "mode", mode=arguments["mode"], state=self.state.moments[-1].state, reasons=[]
            )
        self.wake()
        return outcome

    async def note(
        self, *, user: str, verb: str, arguments: Mapping[str, Any], reason: str = ""
    ) -> None:
        """Write down what a person did or asked for."""
        await self._recorder.record(
            "operator", user=user, verb=verb, arguments=dict(arguments), reason=reason
        )

    async def record(self, kind: str, **fields: Any) -> int:
        """Write an entry of whoever borrowed control."""
        return await self._recorder.record(kind, **fields)

    async def stop_now(self) -> str:
        """Take the station to zero at once; return its word."""
        return await self._dispatcher.stop_now()

    async def safe_stop(self, reason: Reason) -> None:
        """Leave the station at zero, as far as it can be reached; used on the way out."""
        try:
            if reason.code is not ReasonCode.LEDGER:
                await self._end_open(reason)
            held = self.state.active is not None and self.state.active.moves_power
            if held and reason.code is not ReasonCode.LEDGER:
                await self._leave_at_zero(reason)
            elif held or self._may_have_moved():
                await self._dispatcher.stop_now()
        except DeviceError as error:
            log.warning("station not reached on the way out: %s", error)
        except JournalError:  # the ledger ends on the way out: zero all the same
            await self._dispatcher.stop_now()
            raise

    def _may_have_moved(self) -> bool:
        """Tell whether power was ordered of which the ledger does not say how it ended."""
        return any(
            (intent.lost or any(intent.setpoints.values()))
            and intent.phase in (Phase.COMMITTED, Phase.UNKNOWN)
            for intent in self.state.open_intents
        )

    async def _leave_at_zero(self, reason: Reason) -> None:
        """Take power to zero: at once, or step by step where controllers are separate."""
        for _ in range(STEPS_MAX):
            await self._until_there()
            image, before = self._image(), self.state.held
            available = decide.available_va(self.state, image.station)
            dispatch = decide.leaving(self.state, image, available)
            seen = self._image_fields(image) if dispatch.toward and image.station else {}
            await self._dispatcher.dispatch(dispatch, {"cause": reason.code.value, **seen})
            active = self.state.active
            if not dispatch.toward or active is None:
                if active is not None and active.moves_power:  # refused, or its answer was lost
                    await self._dispatcher.stop_now()
                return
            if self.state.held == before:  # a controller does not take it: the others at once
                await self._dispatcher.stop_now()
                return

    async def _until_there(self) -> None:
        """Wait for the ramps of the last step where the next one depends on them."""
        active = self.state.active
        if self.state.site.separate and active is not None:
            left_us = active.mono_us + active.ramp_ms * 1000 - self._clock.mono_us()
            if 0 < left_us <= active.ramp_ms * 1000:
                await self._clock.sleep_until(self._clock.mono_us() + left_us)

    async def _end_open(self, reason: Reason) -> None:
        """Give what the stop interrupted its outcome now, not at the next start."""
        await self._recorder.settled()
        if not self.state.open_intents:
            return
        await self._poller.poll()
        station = self._poller.last if self._poller.link_up else None
        for settle in decide.endings(self.state, station, reason):
            instr_id = station.instruction_id if station else 0
            name = StationState(station.state).name if station else ""
            await self._dispatcher.settle(settle, instr_id, name)
