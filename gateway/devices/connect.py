"""From a URL and a profile to a driver; devices of one endpoint share its connection.

``modbus+tcp://host:port``, ``modbus+rtutcp://host:port`` (RTU frames over TCP),
``modbus+tls://host:802/?ca=…&cert=…&key=…`` and ``modbus+rtu:///dev/ttyUSB0?baud=9600&format=8N1``;
where the profile is for OPC UA, ``opc.tcp://…`` (see ``gateway.devices.opcua.address``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

from gateway.devices.converter import ModbusConverter, lacking
from gateway.devices.converters import GUARDED, Converters
from gateway.devices.device import ModbusDevice
from gateway.devices.guard import StationGuard
from gateway.devices.meter import ModbusMeter
from gateway.devices.modbus.client import ModbusClient, ModbusUnit, Opener, tcp_opener
from gateway.devices.modbus.link import Framing, RtuFraming, TcpFraming
from gateway.devices.modbus.serial_line import LineSettings, serial_opener
from gateway.devices.modbus.tls import TLS_PORT, TlsFiles, tls_opener
from gateway.devices.opcua.address import opcua_client_of
from gateway.devices.opcua.device import OpcuaDevice
from gateway.devices.opcua.meter import OpcuaMeter
from gateway.devices.opcua.station import OpcuaStation
from gateway.devices.profile import ModbusSettings, OpcuaSettings, Profile, Protocol, Sign
from gateway.devices.station import ModbusStation
from gateway.model.errors import ConfigError
from gateway.model.terminal import Terminal
from gateway.ports import Clock, Meter, Station

TCP_PORT = 502
SCHEMES = ("modbus+tcp", "modbus+tls", "modbus+rtu", "modbus+rtutcp")


class Endpoints:
    """The lines that are open, one an endpoint, so that devices behind one of them share it.

    ``spares`` is for who stays: each OPC UA device then has a second child ready (49 MiB).
    """

    def __init__(self, *, spares: bool = False) -> None:
        self.spares = spares
        self._clients: dict[str, ModbusClient] = {}

    def unit(self, *, name: str, profile: Profile, url: str, timeout_s: float) -> ModbusUnit:
        """A device at an endpoint; raises ConfigError for a URL that is none of ours."""
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = client_of(url, profile.modbus, timeout_s=timeout_s)
        return ModbusUnit(
            client, name=name, timeout_s=timeout_s, pause_s=profile.modbus.pause_ms / 1000
        )


def client_of(
    url: str, settings: ModbusSettings, *, timeout_s: float, flying_count_max: int = 1
) -> ModbusClient:
    """A line to the endpoint of the URL; nothing is opened yet."""
    parts = urlsplit(url)

    def tcp_framing() -> Framing:
        return TcpFraming(
            flying_count_max=flying_count_max,
            transaction_zero_ok=settings.transaction_zero_ok,
            exception_length_four_ok=settings.exception_length_four_ok,
        )

    framing: Callable[[], Framing] = tcp_framing
    drain_s = silence_s = 0.0
    match parts.scheme:
        case "modbus+tcp":
            where, opener = _tcp(parts, url)
        case "modbus+rtutcp":
            where, opener = _tcp(parts, url)
            framing, drain_s = RtuFraming, 2 * timeout_s
        case "modbus+tls":
            host, port = _host_and_port(parts, url, TLS_PORT)
            where, opener = f"{host}:{port}", tls_opener(host, port, _tls_files(parts, url))
        case "modbus+rtu":
            line = _line(parts, url)
            where, opener = line.path, serial_opener(line)
            framing, drain_s, silence_s = RtuFraming, 2 * timeout_s, line.silence_s
        case _:
            raise ConfigError(f"{url}: no such way to a device; one of {', '.join(SCHEMES)}")
    return ModbusClient(
        where=where,
        opener=opener,
        framing=framing,
        connect_timeout_s=max(1.0, timeout_s),
        connect_delay_s=settings.connect_delay_ms / 1000,
        drain_s=drain_s,
        silence_s=silence_s,
    )


def _tcp(parts: SplitResult, url: str) -> tuple[str, Opener]:
    host, port = _host_and_port(parts, url, TCP_PORT)
    return f"{host}:{port}", tcp_opener(host, port)


def _tls_files(parts: SplitResult, url: str) -> TlsFiles:
    given = dict(parse_qsl(parts.query))
    missing = [name for name in ("ca", "cert", "key") if name not in given]
    if missing:
        raise ConfigError(f"{url}: add {', '.join(f'`{n}=FILE`' for n in missing)}")
    return TlsFiles(
        authority=Path(given["ca"]),
        certificate=Path(given["cert"]),
        key=Path(given["key"]),
        server_name=given.get("name", ""),
    )


def _line(parts: SplitResult, url: str) -> LineSettings:
    given = dict(parse_qsl(parts.query))
    line_format = given.get("format", "8N1")
    speed = given.get("baud", "9600")
    if not parts.path or not speed.isdigit() or not re.fullmatch("[78][NEO][12]", line_format):
        raise ConfigError(f"{url}: write modbus+rtu:///dev/ttyUSB0?baud=9600&format=8N1")
    return LineSettings(path=parts.path, speed_baud=int(speed), format=line_format)


def _host_and_port(parts: SplitResult, url: str, default_port: int) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from None
    if not host:
        raise ConfigError(f"{url}: no host")
    return host, port or default_port


def open_station(
    *,
    name: str,
    profile: Profile,
    url: str,
    unit: int,
    terminals: Sequence[Terminal],
    clock: Clock,
    owner: int,
    timeout_s: float = 0.5,
    endpoints: Endpoints | None = None,
) -> Station:
    """A station driver; it connects at its first request."""
    if profile.protocol is Protocol.OPCUA:
        spare = endpoints is not None and endpoints.spares
        settings = profile.opcua or OpcuaSettings()
        client = opcua_client_of(name, url, settings, timeout_s=timeout_s, spare=spare)
        return OpcuaStation(
            client=client, profile=profile, terminals=terminals, clock=clock, owner=owner
        )
    line = (endpoints or Endpoints()).unit(name=name, profile=profile, url=url, timeout_s=timeout_s)
    return ModbusStation(
        unit=line, unit_id=unit, profile=profile, terminals=terminals, clock=clock, owner=owner
    )


def open_converters(
    *,
    name: str,
    devices: Mapping[str, tuple[str, Profile, str, int]],
    terminals: Sequence[Terminal],
    master: str,
    clock: Clock,
    owner: int,
    timeout_s: float = 0.5,
    endpoints: Endpoints | None = None,
) -> Station:
    """One driver for terminals with a controller each; they connect at the first request.

    ``devices``: device name, profile, URL and unit by terminal. Raises ConfigError for a profile
    that cannot be driven.
    """
    lines = endpoints or Endpoints()
    by_id = {t.id: t for t in terminals}
    converters = {}
    for terminal, (device, profile, url, unit) in devices.items():
        _check_converter(profile)
        converters[terminal] = ModbusConverter(
            unit=lines.unit(name=device, profile=profile, url=url, timeout_s=timeout_s),
            unit_id=unit,
            profile=profile,
            clock=clock,
            ramp_percent_per_s=_ramp_percent_per_s(by_id[terminal]),
        )
    profile = devices[master][1]
    guard = StationGuard(
        name=name,
        terminals=terminals,
        staged={point: profile.point(point) for point in GUARDED},
        owner=owner,
    )
    return Converters(
        name=name,
        converters=converters,
        terminals=terminals,
        master=master,
        clock=clock,
        owner=owner,
        guard=guard,
    )


def _check_converter(profile: Profile) -> None:
    missing = lacking(profile) if profile.protocol is Protocol.MODBUS else ("Modbus",)
    if missing:
        raise ConfigError(f"{profile.id} cannot be driven: no {', '.join(missing)}")
    if Sign.IMPORT_POSITIVE in (profile.sign.get("p"), profile.sign.get("q")):
        raise ConfigError(f"{profile.id} cannot be driven: it counts import positive")


def _ramp_percent_per_s(terminal: Terminal) -> int:
    """The ramp of a terminal as SunSpec counts it: whole percent of the rating."""
    percent_per_s = terminal.ramp_w_per_s * 100 // terminal.s_va
    if percent_per_s < 1:
        raise ConfigError(f"{terminal.id}: a converter ramps by 1 %/s of its rating or more")
    return percent_per_s


def open_meter(
    *,
    name: str,
    profile: Profile,
    url: str,
    unit: int,
    clock: Clock,
    timeout_s: float = 0.5,
    endpoints: Endpoints | None = None,
) -> Meter:
    """A meter driver; it connects at its first request."""
    if profile.protocol is Protocol.OPCUA:
        device = open_opcua_device(
            name=name,
            profile=profile,
            url=url,
            clock=clock,
            timeout_s=timeout_s,
            spare=endpoints is not None and endpoints.spares,
        )
        return OpcuaMeter(device=device, profile=profile, clock=clock)
    line = (endpoints or Endpoints()).unit(name=name, profile=profile, url=url, timeout_s=timeout_s)
    return ModbusMeter(unit=line, unit_id=unit, profile=profile, clock=clock)


def open_device(
    *,
    name: str,
    profile: Profile,
    url: str,
    unit: int,
    clock: Clock,
    timeout_s: float = 0.5,
    read_only: bool = True,
    endpoints: Endpoints | None = None,
) -> ModbusDevice:
    """Any device by its profile, for people who look at single points."""
    line = (endpoints or Endpoints()).unit(name=name, profile=profile, url=url, timeout_s=timeout_s)
    return ModbusDevice(unit=line, unit_id=unit, profile=profile, clock=clock, read_only=read_only)


def open_opcua_device(
    *,
    name: str,
    profile: Profile,
    url: str,
    clock: Clock,
    timeout_s: float = 0.5,
    spare: bool = False,
) -> OpcuaDevice:
    """Any device by its OPC UA profile, for reading its points."""
    settings = profile.opcua or OpcuaSettings()
    client = opcua_client_of(name, url, settings, timeout_s=timeout_s, spare=spare)
    return OpcuaDevice(client=client, profile=profile, clock=clock)
