"""From a URL and a profile to a driver; devices of one endpoint share its connection.

``modbus+tcp://host:port``, ``modbus+rtutcp://host:port`` (RTU frames over TCP),
``modbus+tls://host:802`` and ``modbus+rtu:///dev/ttyUSB0?baud=9600&format=8N1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import SplitResult, urlsplit

from gateway.devices.meter import ModbusMeter
from gateway.devices.modbus.client import ModbusClient, ModbusUnit, tcp_opener
from gateway.devices.modbus.link import Framing, RtuFraming, TcpFraming
from gateway.devices.profile import ModbusSettings, Profile
from gateway.devices.station import ModbusStation
from gateway.model.errors import ConfigError
from gateway.model.terminal import Terminal
from gateway.ports import Clock

TCP_PORT = 502


class Endpoints:
    """The lines that are open, one an endpoint, so that devices behind one of them share it."""

    def __init__(self) -> None:
        self._clients: dict[str, ModbusClient] = {}

    def unit(self, *, name: str, profile: Profile, url: str, timeout_s: float) -> ModbusUnit:
        """A device at an endpoint; raises ConfigError for a URL that is none of ours."""
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = client_of(url, profile.modbus, timeout_s=timeout_s)
        return ModbusUnit(
            client, name=name, timeout_s=timeout_s, pause_s=profile.modbus.pause_ms / 1000
        )


def client_of(url: str, settings: ModbusSettings, *, timeout_s: float) -> ModbusClient:
    """A line to the endpoint of the URL; nothing is opened yet."""
    parts = urlsplit(url)
    framing: Callable[[], Framing]
    match parts.scheme:
        case "modbus+tcp":
            drain_s = 0.0

            def framing() -> Framing:
                return TcpFraming(
                    transaction_zero_ok=settings.transaction_zero_ok,
                    exception_length_four_ok=settings.exception_length_four_ok,
                )

        case "modbus+rtutcp":
            framing, drain_s = RtuFraming, 2 * timeout_s
        case _:
            raise ConfigError(f"{url}: no such way to a device")
    host, port = _host_and_port(parts, url)
    return ModbusClient(
        where=f"{host}:{port}",
        opener=tcp_opener(host, port),
        framing=framing,
        connect_timeout_s=max(1.0, timeout_s),
        connect_delay_s=settings.connect_delay_ms / 1000,
        drain_s=drain_s,
    )


def _host_and_port(parts: SplitResult, url: str) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from None
    if not host:
        raise ConfigError(f"{url}: no host")
    return host, port or TCP_PORT


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
) -> ModbusStation:
    """A station driver; it connects at its first request."""
    line = (endpoints or Endpoints()).unit(name=name, profile=profile, url=url, timeout_s=timeout_s)
    return ModbusStation(
        unit=line, unit_id=unit, profile=profile, terminals=terminals, clock=clock, owner=owner
    )


def open_meter(
    *,
    name: str,
    profile: Profile,
    url: str,
    unit: int,
    clock: Clock,
    timeout_s: float = 0.5,
    endpoints: Endpoints | None = None,
) -> ModbusMeter:
    """A meter driver; it connects at its first request."""
    line = (endpoints or Endpoints()).unit(name=name, profile=profile, url=url, timeout_s=timeout_s)
    return ModbusMeter(unit=line, unit_id=unit, profile=profile, clock=clock)
