"""The page's and the northbound parts of a site file, read and held to their rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gateway.config.secret_shape import SecretShape
from gateway.config.site_doors_shape import LogShape, NorthboundShape, WebShape
from gateway.config.yaml_reader import Document, Node

PORT_MAX = 65_535
Lies = Callable[[SecretShape, Path], Path]  # where a secret of a folder's site file lies


@dataclass(frozen=True, slots=True, kw_only=True)
class PageTls:
    """Files of the page's TLS; ``clients`` are the authorities of readers' certificates."""

    certificate: Path
    key_file: Path
    clients: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """The page for people."""

    host: str
    port: int
    expose: bool
    tls: PageTls | None
    accounts: Path | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpcuaServerConfig:
    """The OPC UA server of the site's state."""

    host: str
    port: int
    certificate: Path
    key_file: Path
    trusted: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttValuesConfig:
    """Values on MQTT; ``sparkplug`` is (group, node)."""

    broker: str
    username: str | None
    password_file: Path | None
    ca_file: Path | None
    certificate: Path | None
    key_file: Path | None
    home_assistant: bool
    sparkplug: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Northbound:
    """Doors for other programs."""

    opcua: OpcuaServerConfig | None
    mqtt: MqttValuesConfig | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """Where the service's log goes; ``syslog`` is HOST[:PORT] of a collector over TLS."""

    json_lines: bool
    syslog: str | None
    ca_file: Path | None
    certificate: Path | None
    key_file: Path | None


def log_of(found: LogShape, folder: Path, lies: Lies) -> LogConfig:
    """Build the log's part."""
    return LogConfig(
        json_lines=found.format == "json",
        syslog=found.syslog,
        ca_file=folder / found.ca if found.ca else None,
        certificate=folder / found.certificate if found.certificate else None,
        key_file=lies(found.key, folder) if found.key else None,
    )


def web_of(found: WebShape | None, folder: Path, lies: Lies) -> WebConfig | None:
    """Build the page's part; ``lies`` says where a secret is."""
    if found is None:
        return None
    host, port = _address(found.listen)
    tls = None
    if found.tls is not None:
        tls = PageTls(
            certificate=folder / found.tls.certificate,
            key_file=lies(found.tls.key, folder),
            clients=folder / found.tls.clients if found.tls.clients else None,
        )
    return WebConfig(
        host=host,
        port=port,
        expose=found.expose,
        tls=tls,
        accounts=folder / found.accounts if found.accounts else None,
        names=found.names,
    )


def northbound_of(found: NorthboundShape, folder: Path, lies: Lies) -> Northbound:
    """Build the northbound part."""
    opcua, mqtt = None, None
    if found.opcua is not None:
        host, port = _address(found.opcua.listen)
        opcua = OpcuaServerConfig(
            host=host,
            port=port,
            certificate=folder / found.opcua.certificate,
            key_file=lies(found.opcua.key, folder),
            trusted=folder / found.opcua.trusted,
        )
    if found.mqtt is not None:
        m = found.mqtt
        mqtt = MqttValuesConfig(
            broker=m.broker,
            username=m.username,
            password_file=lies(m.password, folder) if m.password else None,
            ca_file=folder / m.ca if m.ca else None,
            certificate=folder / m.certificate if m.certificate else None,
            key_file=lies(m.key, folder) if m.key else None,
            home_assistant=m.home_assistant,
            sparkplug=(m.sparkplug.group, m.sparkplug.node) if m.sparkplug else None,
        )
    return Northbound(opcua=opcua, mqtt=mqtt)


def check(document: Document, root: Node) -> None:
    """Note what is wrong with the doors; nothing leaves the machine unless it says so."""
    web = root.get("web")
    if web is not None:
        _listens(document, web, "the page")
        _exposed_page(document, web)
    opcua = root.get("northbound", "opcua")
    if opcua is not None:
        _listens(document, opcua, "the OPC UA server")
    mqtt = root.get("northbound", "mqtt")
    if mqtt is not None:
        _broker(document, mqtt)
    for part in ("market", "log"):
        node = root.get(part)
        if node is not None:
            _pair(document, node)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _is_local(listen: Node) -> bool:
    host = listen.text.rpartition(":")[0]
    return host.startswith("127.") or host in ("localhost", "[::1]")


def _listens(document: Document, part: Node, what: str) -> None:
    listen = part.get("listen")
    if listen is None or listen.kind != "scalar":
        return
    port = listen.text.rpartition(":")[2]
    if re.fullmatch(r"[0-9]+", port) and int(port) > PORT_MAX:
        document.add(32, f"{port} is not a port", listen, help="ports are 0 to 65535; 0 picks one")
    exposed = part.get("expose")
    if not _is_local(listen) and not (exposed is not None and exposed.value is True):
        message = f"{what} would be open to the network"
        document.add(45, message, listen, help="listen on 127.0.0.1, or say `expose: true`")


def _exposed_page(document: Document, web: Node) -> None:
    listen = web.get("listen")
    exposed = web.get("expose")
    if listen is None or listen.kind != "scalar" or _is_local(listen):
        return
    if exposed is None or exposed.value is not True:
        return  # an error already
    if web.get("tls") is None:
        message = "the page would go over the network in the clear"
        document.warn(60, message, listen, help="give it `tls:`, or put a proxy with TLS before it")
    if web.get("accounts") is None and web.get("tls", "clients") is None:
        message = "everybody on the network may read the page"
        help_text = "name `accounts:`, or `clients:` under `tls:`"
        document.warn(61, message, listen, help=help_text)


def _broker(document: Document, mqtt: Node) -> None:
    broker, password = mqtt.get("broker"), mqtt.get("password")
    if broker is not None and broker.text.startswith("mqtt://") and password is not None:
        message = "the password would travel in the clear"
        document.warn(42, message, broker, help="use `mqtts://`")
    _pair(document, mqtt)


def _pair(document: Document, part: Node) -> None:
    certificate, key = part.get("certificate"), part.get("key")
    if (certificate is None) != (key is None):
        message = "a certificate needs its key, and a key its certificate"
        document.add(62, message, certificate or key, help="give both, or neither")
