"""OPC UA face of a station: ``SOPStation`` with its terminals, and commands as Methods.

Commands go through the same controller as the registers do: one selection, one lease, one
acknowledgement, whatever face they came by. Only signed and encrypted sessions of named users; an
observer may look, an operator may also call and write.
"""

from __future__ import annotations

import asyncio
import datetime
import math
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from asyncua import Node, Server, ua, uamethod
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import USER_TYPES, User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

from firmware_sim.faces.responder import Responder
from firmware_sim.faces.station_map import StationMap
from firmware_sim.plant.converter import Converter
from firmware_sim.plant.firmware import Firmware, Order, Request
from firmware_sim.plant.setpoints import Staged, block_bytes, crc16, encode
from firmware_sim.plant.sop import Sop
from firmware_sim.timebase import SimClock

NAMESPACE: Final = "urn:sop-gateway:bench:sop-station"
APPLICATION: Final = "urn:sop-gateway:bench:opcua"
PERIOD_S: Final = 0.25
OWNER_ID: Final = 0x0A0A
WORDS_PER_TERMINAL: Final = 4
# UN/ECE codes as OPC UA numbers them.
_UNITS: Final = {
    "W": ("WTT", "watt"), "var": ("D44", "var"), "V": ("VLT", "volt"), "A": ("AMP", "ampere"),
    "Hz": ("HTZ", "hertz"), "Wh": ("WHR", "watt hour"), "VA": ("D46", "volt ampere"),
}  # fmt: skip


class Station(Protocol):
    """The station behind the face."""

    sop: Sop
    firmware: Firmware
    station_map: StationMap
    responder: Responder
    clock: SimClock
    bad_quality: bool
    bomb_size: int

    def advance(self) -> None:
        """Bring the physics to now."""

    def now_us(self) -> int:
        """Simulated time of the device."""
        ...


class Passwords:
    """Users of the bench by name; asyncua asks this object."""

    def __init__(self, users: Mapping[str, tuple[str, bool]]) -> None:
        self._users = users

    def get_user(
        self,
        _iserver: object,
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,  # noqa: ARG002 (asyncua passes it by name)
    ) -> User | None:
        """The user's role, or None for whoever is not known."""
        known = self._users.get(username or "")
        if known is None or known[0] != password:
            return None
        return User(role=UserRole.User if known[1] else UserRole.Anonymous, name=username)


class Roles:
    """Operators do everything a user may; observers neither write nor call."""

    def __init__(self) -> None:
        every = {ua.NodeId(kind) for kind in USER_TYPES}
        acting = {
            ua.NodeId(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary),
            ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary),
        }
        self._allowed = {UserRole.User: every, UserRole.Anonymous: every - acting}

    def check_validity(self, user: User, action_type_id: ua.NodeId, _body: object) -> bool:
        """Whether this user may send this request."""
        return action_type_id in self._allowed.get(user.role, set())


# What a bench may offer instead, for clients that must refuse it.
POLICIES: Final = {
    "encrypt": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "sign": ua.SecurityPolicyType.Basic256Sha256_Sign,
    "none": ua.SecurityPolicyType.NoSecurity,
}
USERS: Final = {"operator": ("operator-bench", True), "observer": ("observer-bench", False)}


class OpcUaFace:
    """The OPC UA server of one station."""

    def __init__(self, device: Station, directory: Path, *, security: str = "encrypt") -> None:
        self._device = device
        self._security = security
        self._directory = directory
        self._server = Server(user_manager=Passwords(USERS))
        self._watched: list[tuple[Node, ua.VariantType, Callable[[], Any]]] = []
        self._heartbeat: Node | None = None
        self._selected: tuple[int, int] | None = None

    # ---------------------------------------------------------------- life

    async def start(self, port: int) -> str:
        """Open the endpoint and return its address."""
        server = self._server
        await server.init()
        await server.set_application_uri(APPLICATION)
        server.set_server_name("sopsim station")
        await self._secure()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/sop")
        index = await server.register_namespace(NAMESPACE)
        await self._build(index)
        await self.refresh()
        await server.start()
        bound = server.bserver._server.sockets[0].getsockname()[1]  # noqa: SLF001 (no public way)
        return f"opc.tcp://127.0.0.1:{bound}/sop"

    async def _secure(self) -> None:
        directory, server = self._directory, self._server
        directory.mkdir(parents=True, exist_ok=True)
        key, certificate = directory / "opcua-server-key.pem", directory / "opcua-server.der"
        await setup_self_signed_certificate(
            key, certificate, APPLICATION, "localhost",
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
            {"commonName": "sopsim station", "organizationName": "sop-gateway bench"},
        )  # fmt: skip
        await server.load_certificate(str(certificate))
        await server.load_private_key(str(key))
        server.set_security_policy([POLICIES[self._security]], permission_ruleset=Roles())
        server.set_identity_tokens([ua.UserNameIdentityToken])

    async def close(self) -> None:
        """Close the endpoint."""
        await self._server.stop()

    async def run(self, wait: Callable[[float], Awaitable[None]]) -> None:
        """Keep the values fresh and hear the heartbeat."""
        while True:
            await self.refresh()
            await wait(PERIOD_S)

    async def refresh(self) -> None:
        """Write all values with their simulated time, unless the device is frozen."""
        device = self._device
        if device.responder.wire.frozen:
            return
        device.advance()
        if self._heartbeat is not None:
            beat = await self._heartbeat.read_value()
            if beat:
                device.firmware.heartbeat(int(beat) & 0xFFFF, device.now_us())
        stamp = datetime.datetime.fromtimestamp(device.clock.utc_us() * 1e-6, datetime.UTC)
        status = ua.StatusCode(
            ua.StatusCodes.BadSensorFailure if device.bad_quality else ua.StatusCodes.Good
        )
        for node, kind, value in self._watched:
            content = value()
            if device.bomb_size and kind is ua.VariantType.Double:
                content = [0.0] * device.bomb_size
            await self._server.write_attribute_value(
                node.nodeid,
                ua.DataValue(
                    ua.Variant(content, kind),
                    StatusCode=status,
                    SourceTimestamp=stamp.replace(tzinfo=None),
                ),
            )

    # ------------------------------------------------------------ address space

    async def _build(self, index: int) -> None:
        station = await self._server.nodes.objects.add_object(index, "SOPStation")
        sop, device = self._device.sop, self._device
        rows: tuple[tuple[str, ua.VariantType, Callable[[], Any]], ...] = (
            ("State", ua.VariantType.UInt16, lambda: int(sop.station_state())),
            ("StatusWord", ua.VariantType.UInt16, device.station_map.status_bits),
            ("FaultBits", ua.VariantType.UInt32, lambda: int(device.station_map.fault_bits())),
            ("MasterTerminal", ua.VariantType.UInt16, lambda: sop.master_index + 1),
            ("HeartbeatOut", ua.VariantType.UInt32, lambda: device.now_us() // 1_000_000),
            ("AckCode", ua.VariantType.UInt16, lambda: int(device.firmware.ack_code)),
            (
                "InstrId",
                ua.VariantType.UInt32,
                lambda: device.firmware.echoed_id(device.now_us()),
            ),
        )
        for name, kind, value in rows:
            node = await station.add_variable(index, name, value(), kind)
            self._watched.append((node, kind, value))
        v_dc = sop.spec.v_dc_nominal_v
        await self._analog(
            station, index, "VdcV", "V", 1.3 * v_dc, lambda: sop.v_dc_measured_v, low=0.0
        )
        s_va = float(sum(t.s_va for t in sop.spec.terminals))
        await self._analog(station, index, "LossW", "W", 0.1 * s_va, lambda: sop.loss_w, low=0.0)
        self._heartbeat = await station.add_variable(index, "HeartbeatIn", 0, ua.VariantType.UInt32)
        await self._heartbeat.set_writable()
        terminals = await station.add_object(index, "Terminals")
        for number, converter in enumerate(sop.converters, 1):
            await self._terminal(terminals, index, f"T{number}", converter)
        await self._methods(station, index)

    async def _terminal(self, parent: Node, index: int, name: str, c: Converter) -> None:
        node = await parent.add_object(index, name)
        s, v = float(c.s_va), c.rated.v_ac_nominal_v
        analogs: tuple[tuple[str, str, float, float, Callable[[], float]], ...] = (
            ("P", "W", -s, s, lambda: c.p_w),
            ("Q", "var", -s, s, lambda: c.q_var),
            ("V", "V", 0.0, 1.3 * v, lambda: c.v_ac_v),
            ("I", "A", 0.0, 1.3 * c.rated.i_nominal_a, lambda: c.i_pu() * c.rated.i_nominal_a),
            ("F", "Hz", 45.0, 55.0, lambda: c.f_hz),
            ("PSet", "W", -s, s, lambda: float(c.p_set_rx_w)),
            ("PSetActive", "W", -s, s, lambda: float(c.p_set_w)),
            ("SAvail", "VA", 0.0, s, c.s_va_available),
        )
        for label, unit, low, high, value in analogs:
            await self._analog(node, index, label, unit, high, value, low=low)
        integers: tuple[tuple[str, ua.VariantType, Callable[[], int]], ...] = (
            ("State", ua.VariantType.UInt16, lambda: int(c.state)),
            ("Mode", ua.VariantType.UInt16, lambda: int(c.mode)),
            ("EnergyInjWh", ua.VariantType.UInt64, lambda: math.floor(c.injected_wh)),
            ("EnergyAbsWh", ua.VariantType.UInt64, lambda: math.floor(c.absorbed_wh)),
        )
        for label, kind, count in integers:
            variable = await node.add_variable(index, label, count(), kind)
            self._watched.append((variable, kind, count))

    async def _analog(
        self,
        parent: Node,
        index: int,
        name: str,
        unit: str,
        high: float,
        value: Callable[[], float],
        *,
        low: float,
    ) -> None:
        """An AnalogItem with its range and its unit."""
        node = await parent.add_variable(index, name, value(), ua.VariantType.Double)
        plain, analog = ua.ObjectIds.BaseDataVariableType, ua.ObjectIds.AnalogItemType
        await node.delete_reference(ua.NodeId(plain), ua.ObjectIds.HasTypeDefinition)
        await node.add_reference(ua.NodeId(analog), ua.ObjectIds.HasTypeDefinition)
        await node.add_property(ua.NodeId(), "0:EURange", ua.Range(Low=low, High=high))
        code, label = _UNITS[unit]
        information = ua.EUInformation(
            NamespaceUri="http://www.opcfoundation.org/UA/units/un/cefact",
            UnitId=int.from_bytes(code.encode("ascii"), "big"),
            DisplayName=ua.LocalizedText(unit),
            Description=ua.LocalizedText(label),
        )
        await node.add_property(ua.NodeId(), "0:EngineeringUnits", information)
        self._watched.append((node, ua.VariantType.Double, value))

    # ----------------------------------------------------------------- methods

    async def _methods(self, station: Node, index: int) -> None:
        u16, u32, i32 = ua.VariantType.UInt16, ua.VariantType.UInt32, ua.VariantType.Int32
        ack = _argument("Ack", u16, "as the ACK_CODE register")
        await station.add_method(
            index, "Select", uamethod(self._select),
            [
                _argument("InstrId", u32, "identifies the instruction"),
                _argument("Setpoints", i32, "P W, Q var, mode, ramp a terminal", array=True),
                _argument("Crc", u16, "CRC-16/MODBUS of the setpoints as big-endian int32"),
            ],
            [_argument("Token", u32, "for Operate"), ack],
        )  # fmt: skip
        await station.add_method(
            index, "Operate", uamethod(self._operate),
            [_argument("Token", u32, "from Select"), _argument("TtlS", u16, "life in s")], [ack],
        )  # fmt: skip
        orders = {
            "Cancel": Order.CANCEL, "Start": Order.START, "Stop": Order.STOP,
            "ResetFault": Order.RESET, "EnterStandby": Order.ENTER_STANDBY,
            "ExitStandby": Order.EXIT_STANDBY,
        }  # fmt: skip
        for name, order in orders.items():
            await station.add_method(index, name, self._order(order), [], [ack])
        await station.add_method(
            index, "SetMaster", uamethod(self._set_master),
            [_argument("Terminal", u16, "number from 1")], [ack],
        )  # fmt: skip

    def _order(self, order: Order) -> Any:
        def call(_parent: ua.NodeId) -> ua.Variant:
            return ua.Variant(self._request(order), ua.VariantType.UInt16)

        return uamethod(call)

    def _set_master(self, _parent: ua.NodeId, number: int) -> ua.Variant:
        answer = self._request(Order.SET_MASTER, argument=number)
        return ua.Variant(answer, ua.VariantType.UInt16)

    def _select(
        self, _parent: ua.NodeId, instruction: int, values: Sequence[int], crc: int
    ) -> tuple[ua.Variant, ua.Variant]:
        n = self._device.sop.n
        if len(values) != WORDS_PER_TERMINAL * n:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadInvalidArgument)
        good = crc16(struct.pack(f">{len(values)}i", *values)) == crc
        staged = encode(
            [
                Staged(
                    p_w=values[k], q_var=values[k + 1], mode_code=values[k + 2] & 0xFFFF,
                    ramp_permille_per_s=values[k + 3] & 0xFFFF, vdc_permille=0, fallback_w=0,
                    droop_permille=0,
                )
                for k in range(0, len(values), WORDS_PER_TERMINAL)
            ]
        )  # fmt: skip
        self._device.advance()
        self._device.firmware.stage(0, staged)
        # The registers carry their own checksum; a wrong one here must be wrong there too.
        check = crc16(block_bytes(staged)) ^ (0 if good else 0xFFFF)
        answer = self._request(Order.SELECT, instruction=instruction, crc=check, ttl_s=1)
        token = (self._device.firmware.counters.select_count << 16 | check) & 0xFFFF_FFFF
        self._selected = (token, instruction) if answer == 1 else None
        return ua.Variant(token, ua.VariantType.UInt32), ua.Variant(answer, ua.VariantType.UInt16)

    def _operate(self, _parent: ua.NodeId, token: int, ttl_s: int) -> ua.Variant:
        selected, self._selected = self._selected, None
        instruction = selected[1] if selected is not None and selected[0] == token else -1
        answer = self._request(Order.OPERATE, instruction=instruction, ttl_s=ttl_s)
        return ua.Variant(answer, ua.VariantType.UInt16)

    def _request(
        self, order: Order, *, argument: int = 0, instruction: int = 0, crc: int = 0, ttl_s: int = 0
    ) -> int:
        device = self._device
        device.advance()
        firmware = device.firmware
        firmware.request(
            Request(
                seq=(firmware.ack_seq + 1) & 0xFFFF, code=int(order), argument_bits=argument,
                crc_code=crc, instruction_id=instruction, ttl_s=ttl_s, owner_id=OWNER_ID,
            ),
            device.now_us(),
        )  # fmt: skip
        return int(firmware.ack_code)


def _argument(
    name: str, kind: ua.VariantType, description: str, *, array: bool = False
) -> ua.Argument:
    return ua.Argument(
        Name=name, DataType=ua.NodeId(kind.value), ValueRank=1 if array else -1,
        ArrayDimensions=[0] if array else [], Description=ua.LocalizedText(description),
    )  # fmt: skip


async def open_face(
    device: Station, port: int, directory: Path, *, security: str = "encrypt"
) -> tuple[OpcUaFace, str]:
    """Start the face, within a limit: its certificate takes a moment."""
    face = OpcUaFace(device, directory, security=security)
    async with asyncio.timeout(30):
        return face, await face.start(port)
