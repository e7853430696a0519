"""Shapes of the doors through which people and programs look at the site; all of them only read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from gateway.config.broker_shape import BrokerShape
from gateway.config.secret_shape import Secret
from gateway.config.shape import Shape, Word, described
from gateway.config.site_words import Listen, Name, reachable

HostName = Annotated[
    str,
    Word(
        pattern=r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?",
        what="a host name, without port",
        example="page.example",
    ),
]


class PageTlsShape(Shape):
    """Certificate of the page; with ``clients`` readers must show one of theirs."""

    certificate: str = described(
        "Certificate chain, PEM, relative to the site file", trust="secadm", example="page.pem"
    )
    key: Secret = described(
        "Where its private key lies", trust="secadm", example="{file: page.key}"
    )
    clients: str | None = described(
        "Authorities that may sign readers' certificates; nobody is asked for one when left out",
        trust="secadm",
        default=None,
    )


class WebShape(Shape):
    """The page for people; it only reads."""

    listen: Listen = described(
        "Where the page and the metrics answer", trust="engineer", example="127.0.0.1:8080"
    )
    expose: bool = described(
        "Must be true to listen beyond this machine",
        trust="engineer",
        default=False,
        example="false",
    )
    tls: PageTlsShape | None = described(
        "Serve HTTPS", trust="secadm", default=None, example="{certificate: page.pem, key: …}"
    )
    accounts: str | None = described(
        "People who may log in (`sopgw account`); without it whoever reaches the page reads",
        trust="secadm",
        default=None,
        example="accounts.json",
    )
    names: tuple[HostName, ...] = described(
        "Names besides the machine's own under which readers, or a proxy, ask for the page",
        trust="secadm",
        default=(),
        example="[page.example]",
    )


class OpcuaServerShape(Shape):
    """The site's state as an OPC UA server, in a process of its own."""

    listen: Listen = described("Where it answers", trust="engineer", example="127.0.0.1:4840")
    certificate: str = described(
        "Our application certificate (DER or PEM), relative to the site file",
        trust="secadm",
        example="opcua.der",
    )
    key: Secret = described(
        "Where its private key (PEM) lies", trust="secadm", example="{file: opcua.key}"
    )
    trusted: str = described(
        "Folder with the certificates of the clients that may look",
        trust="secadm",
        example="opcua-trusted",
    )
    expose: bool = described(
        "Must be true to listen beyond this machine",
        trust="engineer",
        default=False,
        example="false",
    )


class SparkplugShape(Shape):
    """Names of this gateway as a Sparkplug B edge node."""

    group: Name = described("Group id", trust="engineer", example="elm")
    node: Name = described("Edge node id", trust="engineer", example="sopgw")


class MqttValuesShape(BrokerShape):
    """The site's values on a broker of the owner's choice."""

    home_assistant: bool = described(
        "Announce every value to Home Assistant as a sensor",
        trust="engineer",
        default=False,
        example="true",
    )
    sparkplug: SparkplugShape | None = described(
        "Speak Sparkplug B too", trust="engineer", default=None, example="{group: elm, node: sopgw}"
    )


class NorthboundShape(Shape):
    """Doors for other programs; none is open unless it stands here."""

    opcua: OpcuaServerShape | None = described(
        "OPC UA server",
        trust="engineer",
        default=None,
        example="{listen: 127.0.0.1:4840, certificate: …}",
    )
    mqtt: MqttValuesShape | None = described(
        "Values on MQTT", trust="engineer", default=None, example="{broker: …}"
    )


class LogShape(Shape):
    """Where the service's log goes; the ledger is the record, this is for whoever keeps the PC."""

    format: Literal["text", "json"] = described(
        "Lines for people, or JSON objects, on stderr",
        trust="engineer",
        default="text",
        example="json",
    )
    syslog: (
        Annotated[
            str,
            Word(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", "HOST or HOST:PORT", "logs.example:6514"),
            AfterValidator(reachable),
        ]
        | None
    ) = described(
        "Collector that takes RFC 5424 over TLS (RFC 5425)",
        trust="engineer",
        default=None,
        example="logs.example:6514",
    )
    ca: str | None = described(
        "Authorities that may sign the collector's certificate; the system's when left out",
        trust="engineer",
        default=None,
    )
    certificate: str | None = described(
        "Our certificate for the collector, PEM", trust="secadm", default=None
    )
    key: Secret | None = described("Where its private key lies", trust="secadm", default=None)
