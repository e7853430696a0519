"""OPC UA face of a station: ``SOPStation`` with its terminals, and commands as Methods.

Commands go through the same controller as the registers do: one selection, one lease, one
acknowledgement, whatever face they came by. Only signed and encrypted sessions of named users; an
observer may look, an operator may also call and write.
"""

from __future__ import annotations

import asyncio
import datetime
import gc
import math
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from asyncua import Node, Server, ua
from asyncua.common.callback import CallbackType
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import USER_TYPES, User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

from firmware_sim.faces.opcua_methods import Commands
from firmware_sim.faces.responder import Responder
from firmware_sim.faces.station_map import FIRMWARE_VERSION, StationMap
from firmware_sim.plant.converter import Converter
from firmware_sim.plant.firmware import Firmware
from firmware_sim.plant.setpoints import decode
from firmware_sim.plant.sop import Sop
from firmware_sim.timebase import SimClock

NAMESPACE: Final = "urn:sop-gateway:bench:sop-station"
APPLICATION: Final = "urn:sop-gateway:bench:opcua"
PERIOD_S: Final = 0.25
FRESH_US: Final = 20_000
START_TIMEOUT_S: Final = 110.0  # some seconds of work; a crowded machine takes its time
# UN/ECE codes as OPC UA numbers them.
_UNITS: Final = {
    "W": ("WTT", "watt"), "var": ("D44", "var"), "V": ("VLT", "volt"), "A": ("AMP", "ampere"),
    "Hz": ("HTZ", "hertz"), "Wh": ("WHR", "watt hour"), "VA": ("D46", "volt ampere"),
    "s": ("SEC", "second"),
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

    def settle(self) -> None:
        """Bring the physics to this very instant."""

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
        self._commands = Commands(device, self.refresh)
        self._fresh_us = 0

    # ---------------------------------------------------------------- life

    async def start(self, port: int) -> str:
        """Open the endpoint and return its address."""
        server = self._server
        gc.disable()  # what this makes stays: nothing to collect, much to look through
        await server.init()
        gc.freeze()
        gc.enable()
        await server.set_application_uri(APPLICATION)
        server.set_server_name("sopsim station")
        await self._secure()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}/sop")
        index = await server.register_namespace(NAMESPACE)
        await self._build(index)
        await self.refresh()
        # The sign of life counts when it comes, not when the values are next refreshed.
        server.subscribe_server_callback(CallbackType.PostWrite, self._written)
        # Who reads sees now, not the last turn of a loop that a busy host may have delayed.
        server.subscribe_server_callback(CallbackType.PreRead, self._about_to_read)
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
        """Keep the values fresh."""
        while True:
            await self.refresh()
            await wait(PERIOD_S)

    async def refresh(self) -> None:
        """Write all values with their simulated time, unless the device is frozen."""
        device = self._device
        if device.responder.wire.frozen:
            return
        device.advance()
        self._fresh_us = device.now_us()
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

    async def _about_to_read(self, event: Any, _dispatcher: object) -> None:
        if event.is_external and self._device.now_us() - self._fresh_us >= FRESH_US:
            await self.refresh()

    def _written(self, event: Any, _dispatcher: object) -> None:
        """Hear the heartbeat in what clients wrote."""
        beat = self._heartbeat
        for item, status in zip(
            event.request_params.NodesToWrite, event.response_params, strict=True
        ):
            if beat is not None and item.NodeId == beat.nodeid and status.is_good():
                self._device.advance()
                self._device.firmware.heartbeat(
                    int(item.Value.Value.Value) & 0xFFFF, self._device.now_us()
                )

    # ------------------------------------------------------------ address space

    async def _build(self, index: int) -> None:
        station = await self._server.nodes.objects.add_object(index, "SOPStation")
        sop, device = self._device.sop, self._device
        for name, kind, value in self._station_rows():
            node = await station.add_variable(index, name, value(), kind)
            self._watched.append((node, kind, value))
        v_dc = sop.spec.v_dc_nominal_v
        await self._analog(
            station, index, "VdcV", "V", 1.3 * v_dc, lambda: sop.v_dc_measured_v, low=0.0
        )
        s_va = float(sum(t.s_va for t in sop.spec.terminals))
        for label, seconds in (
            (
                "WatchdogRemain",
                lambda: device.firmware.watchdog_remaining_us(device.now_us()) * 1e-6,
            ),
            ("WatchdogTimeout", lambda: device.firmware.watchdog_ds / 10),
        ):
            await self._analog(station, index, label, "s", 60.0, seconds, low=0.0)
        await self._analog(station, index, "LossW", "W", 0.1 * s_va, lambda: sop.loss_w, low=0.0)
        self._heartbeat = await station.add_variable(index, "HeartbeatIn", 0, ua.VariantType.UInt32)
        await self._heartbeat.set_writable()
        terminals = await station.add_object(index, "Terminals")
        for number, converter in enumerate(sop.converters, 1):
            await self._terminal(terminals, index, f"T{number}", converter)
        await self._staged(station, index)
        await self._commands.add_to(station, index)

    def _station_rows(self) -> tuple[tuple[str, ua.VariantType, Callable[[], Any]], ...]:
        """Variables of the station that are no analog items."""
        sop, device, words = self._device.sop, self._device, self._device.station_map
        u16, u32 = ua.VariantType.UInt16, ua.VariantType.UInt32

        def uptime_s() -> int:
            return max(0, device.now_us() - device.firmware.booted_us) // 1_000_000

        return (
            ("State", u16, lambda: int(sop.station_state())),
            ("StatusWord", u16, words.status_bits),
            ("FaultBits", u32, lambda: int(words.fault_bits())),
            ("AlarmBits", u32, words.alarm_bits),
            ("MasterTerminal", u16, lambda: sop.master_index + 1),
            ("HeartbeatOut", u32, uptime_s),
            ("UptimeS", u32, uptime_s),
            ("FirmwareVersion", u16, lambda: FIRMWARE_VERSION),
            ("AckSeq", u16, lambda: device.firmware.ack_seq),
            ("AckCode", u16, lambda: int(device.firmware.ack_code)),
            ("InstrId", u32, lambda: device.firmware.echoed_id(device.now_us())),
            ("LeaseOwner", u16, lambda: device.firmware.lease_owner_id),
            ("Failsafe", u16, lambda: int(device.firmware.failsafe)),
            ("FailsafeRamp", u16, lambda: device.firmware.failsafe_ramp_permille_per_s),
        )

    async def _staged(self, parent: Node, index: int) -> None:
        """What is staged, terminal by terminal, for reading back between Select and Operate."""
        device, i32 = self._device, ua.VariantType.Int32
        node = await parent.add_object(index, "Staged")
        for label, value in (
            ("TtlS", lambda: self._commands.ttl_s),
            ("Owner", lambda: self._commands.owner),
        ):
            variable = await node.add_variable(index, label, 0, ua.VariantType.UInt16)
            self._watched.append((variable, ua.VariantType.UInt16, value))
        for number in range(device.sop.n):
            terminal = await node.add_object(index, f"T{number + 1}")
            for label, field in (
                ("PSet", "p_w"), ("QSet", "q_var"), ("Mode", "mode_code"),
                ("Ramp", "ramp_permille_per_s"),
            ):  # fmt: skip

                def staged(at: int = number, name: str = field) -> int:
                    return int(getattr(decode(device.firmware.staged)[at], name))

                variable = await terminal.add_variable(index, label, staged(), i32)
                self._watched.append((variable, i32, staged))

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
            ("QSetActive", "var", -s, s, lambda: float(c.q_set_var)),
            ("SAvail", "VA", 0.0, s, c.s_va_available),
        )
        for label, unit, low, high, value in analogs:
            await self._analog(node, index, label, unit, high, value, low=low)
        integers: tuple[tuple[str, ua.VariantType, Callable[[], int]], ...] = (
            ("State", ua.VariantType.UInt16, lambda: int(c.state)),
            ("Mode", ua.VariantType.UInt16, lambda: int(c.mode)),
            ("FaultBits", ua.VariantType.UInt32, lambda: int(c.faults)),
            ("LimitBits", ua.VariantType.UInt16, lambda: int(c.limits)),
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


async def open_face(
    device: Station, port: int, directory: Path, *, security: str = "encrypt"
) -> tuple[OpcUaFace, str]:
    """Start the face, within a limit: its certificate takes a moment."""
    face = OpcUaFace(device, directory, security=security)
    async with asyncio.timeout(START_TIMEOUT_S):
        return face, await face.start(port)
