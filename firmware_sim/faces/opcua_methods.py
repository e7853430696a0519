"""Commands of the OPC UA face: each is a Method and goes through the station's own controller.

``Select`` stages, checks and gives a token; ``Operate`` takes that token once. Every Method names
its caller by lease owner, as the register of that name does, and answers with an ACK_CODE.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from asyncua import Node, ua, uamethod

from firmware_sim.plant.firmware import (
    WATCHDOG_RANGE_DS,
    Failsafe,
    Firmware,
    Order,
    Request,
)
from firmware_sim.plant.setpoints import Ack, Staged, block_bytes, crc16, encode
from firmware_sim.plant.sop import Sop

WORDS_PER_TERMINAL: Final = 4
ORDERS: Final = {
    "Cancel": Order.CANCEL, "Start": Order.START, "Stop": Order.STOP,
    "ResetFault": Order.RESET, "EnterStandby": Order.ENTER_STANDBY,
    "ExitStandby": Order.EXIT_STANDBY, "SoftEstop": Order.SOFT_ESTOP,
    "SetMaster": Order.SET_MASTER,
}  # fmt: skip
MISSING: Final = ua.StatusCode(ua.StatusCodes.BadArgumentsMissing)
_U16, _U32, _I32 = ua.VariantType.UInt16, ua.VariantType.UInt32, ua.VariantType.Int32


class Station(Protocol):
    """What the commands act on."""

    sop: Sop
    firmware: Firmware

    def settle(self) -> None:
        """Bring the physics to this very instant, before a command acts."""

    def now_us(self) -> int:
        """Simulated time of the device."""
        ...


class Commands:
    """The Methods of one station; ``after`` shows their effect in the address space."""

    def __init__(self, device: Station, after: Callable[[], Awaitable[None]]) -> None:
        self._device = device
        self._after = after
        self._selected: tuple[int, int, int] | None = None  # token, instruction, owner
        self.ttl_s = 0
        self.owner = 0

    async def add_to(self, station: Node, index: int) -> None:
        """Put the Methods under the station's object."""
        ack = argument("Ack", _U16, "as the ACK_CODE register")
        owner = argument("Owner", _U16, "who holds or takes the lease")
        await station.add_method(
            index, "Select", uamethod(self._select),
            [
                argument("InstrId", _U32, "identifies the instruction"),
                argument("Setpoints", _I32, "P W, Q var, mode, ramp a terminal", array=True),
                argument("Crc", _U16, "CRC-16/MODBUS of the setpoints as big-endian int32"),
                argument("TtlS", _U16, "life from Operate in s"),
                owner,
            ],
            [argument("Token", _U32, "for Operate"), ack],
        )  # fmt: skip
        await station.add_method(
            index, "Operate", uamethod(self._operate),
            [argument("Token", _U32, "from Select"), argument("TtlS", _U16, "life in s")], [ack],
        )  # fmt: skip
        for name, order in ORDERS.items():
            said = "number from 1" if order is Order.SET_MASTER else "terminals by bit; 0: all"
            await station.add_method(
                index, name, self._order(order), [argument("Argument", _U16, said), owner], [ack]
            )
        await station.add_method(
            index, "Configure", uamethod(self._configure),
            [
                argument("WatchdogDs", _U16, "longest silence of the controller in 0.1 s"),
                argument("Failsafe", _U16, "0 hold, 1 ramp to zero, 2 fallback, 3 block"),
                argument("RampPermille", _U16, "fail-safe ramp in 0.1 %/s"),
                owner,
            ],
            [ack],
        )  # fmt: skip

    def _order(self, order: Order) -> Any:
        async def call(_parent: ua.NodeId, *given: int) -> ua.Variant | ua.StatusCode:
            if len(given) != 2:
                return MISSING
            answer = self._request(order, bits=given[0], owner=given[1])
            await self._after()
            return ua.Variant(answer, _U16)

        return uamethod(call)

    async def _select(
        self, _parent: ua.NodeId, *given: Any
    ) -> tuple[ua.Variant, ua.Variant] | ua.StatusCode:
        if len(given) != 5:
            return MISSING
        instruction, values, crc, ttl_s, owner = given
        if len(values) != WORDS_PER_TERMINAL * self._device.sop.n:
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        good = crc16(struct.pack(f">{len(values)}i", *values)) == crc
        staged = encode(_setpoints(values))
        self._device.settle()
        firmware = self._device.firmware
        if not firmware.leased(self._device.now_us()) or owner == firmware.lease_owner_id:
            # Who does not hold the lease does not overwrite what its holder staged.
            firmware.stage(0, staged)
            self.ttl_s, self.owner = ttl_s, owner
        # The registers carry their own checksum; a wrong one here must be wrong there too.
        check = crc16(block_bytes(staged)) ^ (0 if good else 0xFFFF)
        answer = self._request(
            Order.SELECT, instruction=instruction, crc=check, ttl_s=ttl_s, owner=owner
        )
        token = (firmware.counters.select_count << 16 | check) & 0xFFFF_FFFF
        if answer == Ack.ACCEPTED:
            self._selected = (token, instruction, owner)
        elif answer != Ack.REJECTED_LEASE:
            self._selected = None
        await self._after()
        return ua.Variant(token, _U32), ua.Variant(answer, _U16)

    async def _operate(self, _parent: ua.NodeId, *given: int) -> ua.Variant | ua.StatusCode:
        if len(given) != 2:
            return MISSING
        token, ttl_s = given
        selected, self._selected = self._selected, None
        good = selected is not None and selected[0] == token
        instruction, owner = selected[1:] if good and selected is not None else (-1, 0)
        if not good:
            owner = self._device.firmware.lease_owner_id
        answer = self._request(Order.OPERATE, instruction=instruction, ttl_s=ttl_s, owner=owner)
        await self._after()
        return ua.Variant(answer, _U16)

    async def _configure(self, _parent: ua.NodeId, *given: int) -> ua.Variant | ua.StatusCode:
        """The parameter registers of the other map: watchdog, fail-safe, its ramp, the lease."""
        if len(given) != 4:
            return MISSING
        watchdog_ds, failsafe, ramp, owner = given
        self._device.settle()
        firmware, now_us = self._device.firmware, self._device.now_us()
        low, high = WATCHDOG_RANGE_DS
        leased = firmware.leased(now_us)
        if leased and owner not in (0, firmware.lease_owner_id):
            answer = Ack.REJECTED_LEASE
        elif not (
            low <= watchdog_ds <= high
            and failsafe in frozenset(int(f) for f in Failsafe)
            and 1 <= ramp <= 1000
        ):
            answer = Ack.REJECTED_RANGE
        else:
            answer = Ack.EXECUTED
            firmware.watchdog_ds, firmware.failsafe = watchdog_ds, Failsafe(failsafe)
            firmware.failsafe_ramp_permille_per_s = ramp
            if not leased:
                firmware.lease_owner_id = owner
        await self._after()
        return ua.Variant(int(answer), _U16)

    def _request(
        self,
        order: Order,
        *,
        bits: int = 0,
        instruction: int = 0,
        crc: int = 0,
        ttl_s: int = 0,
        owner: int = 0,
    ) -> int:
        device = self._device
        device.settle()
        firmware = device.firmware
        firmware.request(
            Request(
                seq=(firmware.ack_seq + 1) & 0xFFFF, code=int(order), argument_bits=bits,
                crc_code=crc, instruction_id=instruction, ttl_s=ttl_s, owner_id=owner,
            ),
            device.now_us(),
        )  # fmt: skip
        return int(firmware.ack_code)


def _setpoints(values: Sequence[int]) -> list[Staged]:
    return [
        Staged(
            p_w=values[k], q_var=values[k + 1], mode_code=values[k + 2] & 0xFFFF,
            ramp_permille_per_s=values[k + 3] & 0xFFFF, vdc_permille=0, fallback_w=0,
            droop_permille=0,
        )
        for k in range(0, len(values), WORDS_PER_TERMINAL)
    ]  # fmt: skip


def argument(
    name: str, kind: ua.VariantType, description: str, *, array: bool = False
) -> ua.Argument:
    """One argument of a Method as it is declared."""
    return ua.Argument(
        Name=name, DataType=ua.NodeId(kind.value), ValueRank=1 if array else -1,
        ArrayDimensions=[0] if array else [], Description=ua.LocalizedText(description),
    )  # fmt: skip
