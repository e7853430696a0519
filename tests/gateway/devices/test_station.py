"""The station driver against a device whose every answer the test decides."""

import asyncio
import struct
import time

import pytest

from gateway.config.profile_file import load_profile
from gateway.devices.connect import open_station
from gateway.devices.modbus.frame import crc16
from gateway.model.errors import BadAnswer, DeviceError, DeviceNotSent, OutcomeUnknown
from gateway.model.setpoint import Ack, Command, ControlMode, Instruction, Setpoint
from gateway.model.telemetry import Quality
from gateway.model.terminal import Terminal

pytestmark = pytest.mark.usefixtures("still_time")
T = tuple(
    Terminal(
        id=f"T{n + 1}", index=n, domain="r", meter="m", s_va=250_000, p_w_min=-230_000,
        p_w_max=230_000, ramp_w_per_s=50_000, v_dv_min=3600, v_dv_max=4400,
    )
    for n in range(4)
)  # fmt: skip
ARMING = {
    "watchdog_ds": 50, "failsafe": 1, "failsafe_ramp_permille_per_s": 200, "lease_owner": 7,
}  # fmt: skip


class Clock:
    def utc_us(self):
        return time.time_ns() // 1000

    def mono_us(self):
        return time.monotonic_ns() // 1000 + self.ahead_us

    def at_least(self, real_us):
        return real_us * self.factor

    ahead_us, factor = 0, 1


class Station:
    """Registers of a station; ``react`` sees every command and sets the acknowledgement."""

    def __init__(self, react=None, drop=()):
        self.holding, self.input = [0] * 80, {}
        for address in (*range(1000, 1024), *range(1100, 1260)):
            self.input[address] = 0
        self.input[1000], self.input[1012] = 6, 1
        self.commands, self.drop, self.react = [], list(drop), react or self.accept
        self.busy, self.asked, self.after = 0, None, {}

    def accept(self, code):
        self.answer(1 if code == 7 else 2)

    def answer(self, ack, *, seq=None, instr=None):
        self.input[1006] = self.holding[0] if seq is None else seq
        self.input[1007] = ack
        words = (
            struct.unpack(">HH", struct.pack(">I", instr))
            if instr is not None
            else self.holding[8:10]
        )
        self.input[1010], self.input[1011] = words

    def __call__(self, device, wire, request):
        function, address, count = struct.unpack_from(">BHH", request, 7)
        if function == 16:
            self.holding[address : address + count] = struct.unpack_from(f">{count}H", request, 13)
            if address == 0 and count == 12 and self.holding[0] != self.input[1006]:
                self.commands.append(tuple(self.holding[:12]))
                self.react(self.holding[1])
            body = request[7:12]
        else:
            table = self.holding if function == 3 else self.input
            body = struct.pack(
                f">BB{count}H", function, 2 * count, *(table[address + k] for k in range(count))
            )
        if self.busy and (function, address) == (4, 1006):
            self.busy -= 1
            self.asked.set()
            body = b"\x84\x06"
        if function == 16 and address in self.after:
            self.after[address](self)
        if (function, address) in self.drop:
            self.drop.remove((function, address))
            return
        wire.send(request[:4] + (len(body) + 1).to_bytes(2) + request[6:7] + body)


def open_to(device, **fields):
    return open_station(
        name="station", profile=load_profile("sop-station-v1"),
        url=f"modbus+tcp://127.0.0.1:{device.port}", unit=100, terminals=T, clock=Clock(), owner=7,
        **{"timeout_s": 0.15} | fields,
    )  # fmt: skip


def instruction(**fields):
    setpoints = tuple(
        Setpoint(
            terminal=t.id,
            mode=ControlMode.VDC_Q if t.index == 0 else ControlMode.P_Q,
            p_w=p,
            q_var=q,
        )
        for t, p, q in zip(T, (0, -150_200, 70_000, 1), (0, 0, -2, 3), strict=True)
    )
    return Instruction(
        **{"id": 0xDEADBEEF, "sop": "S", "ramp_permille_per_s": 200, "ttl_s": 905} | fields,
        setpoints=setpoints,
    )


async def test_every_register_of_a_command_is_as_the_map_says(peer):
    station = Station()
    station.holding[:12] = [41, 0, 0, 0, 3, 50, 1, 200, 0, 0, 9, 0]
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        wanted = instruction()
        await driver.heartbeat(77)
        assert await driver.select(wanted) is Ack.ACCEPTED
        staged = struct.pack(">iiHHHiHHH", 0, 0, 1, 200, 0, 0, 0, 0, 0)
        for p, q in ((-150_200, 0), (70_000, -2), (1, 3)):
            staged += struct.pack(">iiHHHiHHH", p, q, 0, 200, 0, 0, 0, 0, 0)
        assert driver.staged_block(wanted) == staged
        assert struct.pack(">48H", *station.holding[20:68]) == staged
        crc = crc16(staged)
        assert station.commands == [(42, 7, 0, crc, 77, 50, 1, 200, 0xDEAD, 0xBEEF, 905, 7)]
        assert await driver.staged_equals(wanted)
        station.holding[30] ^= 1
        assert not await driver.staged_equals(wanted)
        station.holding[30] ^= 1
        assert await driver.operate(wanted) is Ack.EXECUTED
        assert station.commands[1] == (43, 8, 0, crc, 77, 50, 1, 200, 0xDEAD, 0xBEEF, 905, 7)
        assert await driver.command(Command.SET_MASTER, 2) is Ack.EXECUTED
        assert station.commands[2][:4] == (44, 10, 2, crc)
        await driver.close()


@pytest.mark.parametrize("reported", [0, 1, 65534, 65535])
async def test_the_sequence_starts_from_the_station_and_never_repeats(peer, reported):
    station = Station()
    station.holding[0] = station.input[1006] = reported
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        for _ in range(4):
            await driver.command(Command.CANCEL)
        used = [c[0] for c in station.commands]
        assert len(set(used)) == 4
        assert reported not in used
        assert 0 not in used
        # Somebody else has used the number that would be next: it is passed over.
        following = [n % 0xFFFF + 1 for n in (used[-1], used[-1] % 0xFFFF + 1)]
        station.input[1006] = following[0]
        await driver.command(Command.CANCEL)
        assert station.commands[-1][0] == following[1]
        await driver.close()


async def test_an_unanswered_command_is_unknown_and_is_not_sent_again(peer):
    station = Station(drop=[(16, 0)])
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        with pytest.raises(OutcomeUnknown):
            await driver.command(Command.STOP)
        assert len(station.commands) == 1
        with pytest.raises(DeviceNotSent):  # the pause after a failure
            await driver.command(Command.STOP)
        driver._unit._not_before_s = 0.0
        seen = await driver.read()  # and reading back tells
        assert (seen.ack_seq, seen.ack_code) == (1, Ack.EXECUTED)
        assert await driver.command(Command.STOP) is Ack.EXECUTED
        assert [c[0] for c in station.commands] == [1, 2]
        await driver.close()


async def test_an_unreadable_acknowledgement_is_unknown_not_failed(peer):
    station = Station()

    def mute_after(code):
        station.accept(code)
        station.drop = [(4, 1006)] * 9

    station.react = mute_after
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        with pytest.raises(OutcomeUnknown, match="STOP"):
            await driver.command(Command.STOP)
        assert len(station.commands) == 1
        await driver.close()


async def test_reads_that_fail_before_the_command_mean_that_nothing_was_sent(peer):
    station = Station(drop=[(4, 1006)] * 3)
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        with pytest.raises(DeviceNotSent):
            await driver.command(Command.START)
        assert station.commands == []
        await driver.close()


@pytest.mark.parametrize("code", [3, 4, 5, 6, 7, 8, 9])
async def test_every_rejection_is_returned(peer, code):
    station = Station()
    station.react = lambda _: station.answer(code)
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        assert await driver.select(instruction()) is Ack(code)
        with pytest.raises(DeviceNotSent):
            await driver.operate(instruction())
        await driver.close()


async def test_a_selection_grows_old_but_not_by_a_stall_of_a_fast_bench(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        clock = driver._clock
        for ahead_us, factor, refused in (
            (9_900_000, 1, False),
            (10_100_000, 1, True),
            (20_000_000, 60, False),
        ):
            await driver.read()
            assert await driver.select(instruction(id=ahead_us)) is Ack.ACCEPTED
            clock.ahead_us, clock.factor = clock.ahead_us + ahead_us, factor
            if refused:
                with pytest.raises(DeviceNotSent, match="not-selected"):
                    await driver.operate(instruction(id=ahead_us))
            else:
                assert await driver.operate(instruction(id=ahead_us)) is Ack.EXECUTED
        await driver.close()


async def test_foreign_unknown_and_missing_acknowledgements(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        station.react = lambda _: station.answer(1, instr=0x12345678)
        with pytest.raises(BadAnswer, match="0x12345678 acknowledged"):
            await driver.select(instruction())
        station.react = lambda _: station.answer(99)
        with pytest.raises(BadAnswer, match="99"):
            await driver.command(Command.START)
        station.react = lambda _: None
        with pytest.raises(OutcomeUnknown, match="not acknowledged"):
            await driver.command(Command.START)
        await driver.close()


async def test_after_a_read_that_failed_no_power_is_selected_before_the_next_good_one(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        station.drop = [(4, 1180)] * 3  # the first half of the reading came
        with pytest.raises(OutcomeUnknown):
            await driver.read()
        driver._unit._not_before_s = 0.0
        with pytest.raises(DeviceNotSent, match="not been read"):
            await driver.select(instruction())
        assert station.commands == []
        await driver.read()
        assert await driver.select(instruction()) is Ack.ACCEPTED
        await driver.close()


async def test_each_terminal_is_read_in_one_transaction(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        spans = [(b.address, b.address + b.count) for b in driver._blocks]
        for t in range(4):
            first = 1100 + 40 * t
            assert any(start <= first and first + 30 <= end for start, end in spans)
        assert all(end - start <= 125 for start, end in spans)
        assert any(start <= 1000 and end >= 1019 for start, end in spans)


@pytest.mark.parametrize(("address", "word"), [(1000, 14), (1100, 99)])
async def test_nonsense_states_are_no_telemetry(peer, address, word):
    station = Station()
    station.input[address] = word
    async with peer(station) as device:
        driver = open_to(device)
        with pytest.raises(BadAnswer, match="unknown operating state"):
            await driver.read()
        await driver.close()


async def test_an_absurd_power_is_not_good(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        assert (await driver.read()).quality is Quality.GOOD
        station.input[1101], station.input[1102] = struct.unpack(">HH", struct.pack(">i", -300_001))
        assert (await driver.read()).quality is Quality.UNCERTAIN
        await driver.close()


async def test_an_operate_that_is_only_accepted_is_unknown(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        wanted = instruction()
        assert await driver.select(wanted) is Ack.ACCEPTED
        station.react = lambda _: station.answer(1)
        with pytest.raises(OutcomeUnknown, match="OPERATE 2 was accepted, not known to be done"):
            await driver.operate(wanted)
        assert [c[1] for c in station.commands] == [7, 8]
        assert await driver.command(Command.STOP) is Ack.ACCEPTED  # taken: power goes down
        await driver.close()


# Two at once


def busy(station, times=1):
    """The next reads of the acknowledgement are answered "busy"; say when the first one was."""
    station.busy, asked = times, asyncio.Event()
    station.asked = asked
    return asked.wait()


async def test_nothing_that_moves_power_follows_a_stop(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        wanted = instruction()
        assert await driver.select(wanted) is Ack.ACCEPTED
        asked = busy(station)
        operate = asyncio.create_task(driver.operate(wanted))
        await asked
        assert await driver.command(Command.ENTER_STANDBY) is Ack.EXECUTED
        with pytest.raises(DeviceNotSent, match="a stop was ordered"):
            await operate
        assert [c[1] for c in station.commands] == [7, 4]
        for command in (Command.START, Command.EXIT_STANDBY):
            asked = busy(station)
            order = asyncio.create_task(driver.command(command))
            await asked
            await driver.command(Command.STOP)
            with pytest.raises(DeviceNotSent, match="a stop was ordered"):
                await order
        assert [c[1] for c in station.commands] == [7, 4, 2, 2]
        await driver.close()


async def test_what_a_stop_overtook_is_not_selected(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        asked = busy(station)
        select = asyncio.create_task(driver.select(instruction()))
        await asked
        await driver.command(Command.STOP)
        with pytest.raises(DeviceNotSent, match="a stop was ordered"):
            await select
        assert [c[1] for c in station.commands] == [2]

        def accept_and_be_busy(code):
            station.accept(code)
            if code == 7:
                station.busy = 1  # the acknowledgement of SELECT is read only after the stop
                station.asked = taken

        taken = asyncio.Event()
        station.react = accept_and_be_busy
        driver._clock.ahead_us = 1_000_000
        await driver.read()
        select = asyncio.create_task(driver.select(instruction()))
        await taken.wait()
        await driver.command(Command.STOP)
        with pytest.raises(OutcomeUnknown, match="SELECT 2 was not acknowledged"):
            await select
        with pytest.raises(DeviceNotSent, match="not-selected"):
            await driver.operate(instruction())
        await driver.close()


async def test_a_stop_leaves_the_watchdog_as_it_was_armed_meanwhile(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        asked = busy(station)
        stop = asyncio.create_task(driver.command(Command.STOP))
        await asked
        await driver.configure(**ARMING)
        assert await stop is Ack.EXECUTED
        assert station.holding[5:8] == [50, 1, 200]
        assert await driver.command(Command.STOP) is Ack.EXECUTED
        assert station.holding[5:8] == [50, 1, 200]

        # The stop leaves first, and hears of it last.
        station.holding[5:8] = [0, 0, 0]
        await driver.read()
        station.react = lambda _: None
        stop = asyncio.create_task(driver.command(Command.STOP))
        await device.until(lambda _: len(station.commands) == 3)
        await driver.configure(**ARMING)
        station.react = station.accept
        station.accept(2)
        assert await stop is Ack.EXECUTED
        assert await driver.command(Command.STOP) is Ack.EXECUTED
        assert station.holding[5:8] == [50, 1, 200]

        # Its answer is missing: nobody writes from memory what may be armed.
        station.holding[5:8] = [0, 0, 0]
        await driver.read()
        station.drop = [(16, 5)]
        armed = asyncio.create_task(driver.configure(**ARMING))
        await device.until(lambda _: not station.drop)
        stop = asyncio.create_task(driver.command(Command.STOP))
        with pytest.raises(OutcomeUnknown):
            await armed
        with pytest.raises(DeviceError):
            await stop  # the pause after a failure
        driver._unit._not_before_s = 0.0
        assert await driver.command(Command.STOP) is Ack.EXECUTED
        assert station.holding[5:8] == [50, 1, 200]
        await driver.close()


async def test_a_stop_while_the_watchdog_is_being_armed_leaves_with_it_in_the_registers_units(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.command(Command.CANCEL)  # from now on the staged words are known
        stop = driver.command(Command.ENTER_STANDBY)
        assert await asyncio.gather(driver.configure(**ARMING), stop) == [None, Ack.EXECUTED]
        assert station.commands[-1][5:8] == (50, 1, 200)
        await driver.close()


async def test_two_commands_at_once_have_numbers_of_their_own_in_the_order_they_leave(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        orders = [Command.CANCEL, Command.STOP, Command.SOFT_ESTOP]
        await asyncio.gather(*(driver.command(c) for c in orders), return_exceptions=True)
        numbers = [c[0] for c in station.commands]
        assert numbers == [1, 2, 3]
        assert [c[1] for c in station.commands] == [9, 2, 6]
        await driver.close()


async def test_a_stop_while_setpoints_are_being_staged(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()
        asked = busy(station)
        stop = asyncio.create_task(driver.command(Command.STOP))
        await asked
        station.drop = [(16, 20)]  # nobody knows what is staged
        select = asyncio.create_task(driver.select(instruction()))
        await device.until(lambda _: not station.drop)
        results = await asyncio.gather(stop, select, return_exceptions=True)
        assert isinstance(results[1], OutcomeUnknown)
        assert not isinstance(results[0], TypeError)
        driver._unit._not_before_s = 0.0
        assert await driver.command(Command.STOP) is Ack.EXECUTED
        assert station.commands[-1][3] == crc16(struct.pack(">48H", *station.holding[20:68]))
        await driver.close()


# Arming


async def test_arming_that_cannot_be_read_back_is_unknown(peer):
    station = Station()
    async with peer(station) as device:
        driver = open_to(device)
        await driver.read()

        def shut(_):
            driver._unit._not_before_s = asyncio.get_running_loop().time() + 9

        for last, what in ((11, "not read back: no answer lately"), (5, "in part: no answer")):
            station.after = {last: shut}
            with pytest.raises(OutcomeUnknown, match=what):
                await driver.configure(**ARMING)
            driver._unit._not_before_s = 0.0
        station.after = {}
        await driver.configure(**ARMING)
        await driver.close()
