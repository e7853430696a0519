"""The station driver on OPC UA against a server whose every answer the test decides."""

import time
from collections import Counter

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.opcua.client import Reading
from gateway.devices.opcua.station import (
    CONFIGURE_METHOD,
    CONFIGURED_POINTS,
    METHODS,
    OPERATE_METHOD,
    SELECT_METHOD,
    OpcuaStation,
    SecurityOff,
)
from gateway.model.errors import (
    BadAnswer,
    ConfigError,
    DeviceNotSent,
    DeviceRefused,
    OutcomeUnknown,
)
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.model.telemetry import Quality
from gateway.model.terminal import Terminal

T = tuple(
    Terminal(
        id=f"T{n + 1}", index=n, domain="r", meter="m", s_va=250_000, p_w_min=-230_000,
        p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3600, v_dv_max=4400,
    )
    for n in range(4)
)  # fmt: skip
WANTED = Instruction(
    id=1,
    sop="S",
    ramp_permille_per_s=200,
    ttl_s=9,
    setpoints=tuple(Setpoint(terminal=t.id, mode=ControlMode.P_Q, p_w=0) for t in T),
)
SETTINGS = {
    "watchdog_ds": 50, "failsafe": 1, "failsafe_ramp_permille_per_s": 200, "lease_owner": 9,
}  # fmt: skip
AS_SET = (5.0, 1, 200, 9)  # s, code, 0.1 %/s, owner


class Clock:
    ahead_us = 0

    def utc_us(self):
        return time.time_ns() // 1000

    def mono_us(self):
        return time.monotonic_ns() // 1000 + self.ahead_us

    def at_least(self, real_us):
        return real_us


class Server:
    """Takes the client's place: ``outputs`` by method, ``values`` or an error for what is read."""

    name = "station"

    def __init__(self, outputs, values=()):
        self.outputs, self.values = outputs, values
        self.counts, self.called = Counter(), []
        self.meanwhile = None  # awaited once, as a call waits for the one before it

    async def call(self, _owner, method, _arguments=(), *, obstacle=str):
        if self.meanwhile is not None:
            waited, self.meanwhile = self.meanwhile, None
            await waited()
        if why := obstacle():
            raise DeviceNotSent(self.name, why)
        self.called.append(method)
        return self.outputs[method]

    async def read(self, nodes, *, utc_us, stale_us=0):
        if isinstance(self.values, Exception):
            raise self.values
        return [
            Reading(node=n, value=v, quality=Quality.GOOD, status="Good", source_utc_us=None)
            for n, v in zip(nodes, self.values, strict=True)
        ]


def station(outputs, values=()):
    server = Server({}, values)
    driver = OpcuaStation(
        client=server,
        profile=load_profile("sop-station-opcua"),
        terminals=T,
        clock=Clock(),
        owner=7,
    )
    server.outputs = {driver._nodes[method]: found for method, found in outputs.items()}
    return driver, server


async def operated(code):
    driver, server = station({SELECT_METHOD: [77, 1], OPERATE_METHOD: [code]})
    assert await driver.select(WANTED) is Ack.ACCEPTED
    try:
        return await driver.operate(WANTED)
    finally:
        assert server.called.count(driver._nodes[OPERATE_METHOD]) == 1


async def test_an_operate_still_at_work_is_unknown():
    with pytest.raises(OutcomeUnknown, match="not known to be executed"):
        await operated(Ack.ACCEPTED)


@pytest.mark.parametrize("code", [Ack.EXECUTED, Ack.REJECTED_STATE, Ack.REJECTED_NOT_SELECTED])
async def test_an_operate_with_a_certain_answer_is_what_it_says(code):
    assert await operated(code) is code


async def selected(**more):
    driver, server = station({SELECT_METHOD: [77, 1], OPERATE_METHOD: [Ack.EXECUTED], **more})
    assert await driver.select(WANTED) is Ack.ACCEPTED
    return driver, server


async def test_an_operate_that_waited_for_the_server_does_not_follow_a_stop():
    stop = METHODS[Command.ENTER_STANDBY]
    driver, server = await selected(**{stop: [Ack.EXECUTED]})

    async def stopped():
        assert await driver.command(Command.ENTER_STANDBY) is Ack.EXECUTED

    server.meanwhile = stopped
    with pytest.raises(DeviceNotSent, match="a stop was ordered"):
        await driver.operate(WANTED)
    assert server.called == [driver._nodes[SELECT_METHOD], driver._nodes[stop]]


async def test_a_stop_leaves_though_another_came_while_it_waited():
    standby, stop = METHODS[Command.ENTER_STANDBY], METHODS[Command.STOP]
    driver, server = station({standby: [Ack.EXECUTED], stop: [Ack.EXECUTED]})

    async def stopped():
        assert await driver.command(Command.STOP) is Ack.EXECUTED

    server.meanwhile = stopped
    assert await driver.command(Command.ENTER_STANDBY) is Ack.EXECUTED
    assert server.called == [driver._nodes[stop], driver._nodes[standby]]


async def test_an_operate_that_waited_too_long_for_a_connection_does_not_leave():
    driver, server = await selected()

    async def connected():
        driver._clock.ahead_us = 20_000_000

    server.meanwhile = connected
    with pytest.raises(DeviceNotSent, match="grew old"):
        await driver.operate(WANTED)
    assert server.called == [driver._nodes[SELECT_METHOD]]


async def test_settings_that_read_back_as_written_are_kept():
    driver, server = station({CONFIGURE_METHOD: [Ack.EXECUTED]}, AS_SET)
    await driver.configure(**SETTINGS)
    assert len(server.called) == 1


@pytest.mark.parametrize(
    "error",
    [
        DeviceNotSent("station", "waiting before the next try"),
        DeviceRefused("station", "BadTooManyOperations", 1),
        ConfigError("units differ"),
    ],
)
async def test_settings_that_were_written_and_cannot_be_read_back_are_unknown(error):
    driver, server = station({CONFIGURE_METHOD: [Ack.EXECUTED]}, error)
    with pytest.raises(OutcomeUnknown, match="written, but"):
        await driver.configure(**SETTINGS)
    assert len(server.called) == 1
    with pytest.raises(SecurityOff if isinstance(error, ConfigError) else type(error)):
        await driver.read()  # a reading that fails is what it is


async def test_settings_still_at_work_are_unknown():
    driver, _ = station({CONFIGURE_METHOD: [Ack.ACCEPTED]}, AS_SET)
    with pytest.raises(OutcomeUnknown, match="not known to be executed"):
        await driver.configure(**SETTINGS)


async def test_settings_that_did_not_take_are_refused():
    driver, _ = station({CONFIGURE_METHOD: [Ack.REJECTED_LEASE]}, AS_SET)
    with pytest.raises(DeviceRefused, match="REJECTED_LEASE"):
        await driver.configure(**SETTINGS)
    driver, _ = station({CONFIGURE_METHOD: [Ack.EXECUTED]}, (5.0, 0, 200, 9))
    with pytest.raises(DeviceRefused, match="settings read"):
        await driver.configure(**SETTINGS)
    driver, _ = station({CONFIGURE_METHOD: [Ack.EXECUTED]}, (None,) * len(CONFIGURED_POINTS))
    with pytest.raises(BadAnswer):
        await driver.configure(**SETTINGS)
