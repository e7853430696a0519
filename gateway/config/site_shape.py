"""The shape of a site file, key by key; the same models make its JSON Schema and its table.

``trust`` says who must be trusted with a key: what harm a wrong value can do decides.
"""

from __future__ import annotations

from typing import Annotated, Literal

from gateway.config.broker_shape import BrokerShape
from gateway.config.secret_shape import Secret
from gateway.config.shape import (
    Quantity,
    Shape,
    Span,
    Whole,
    Word,
    described,
)
from gateway.config.site_doors_shape import LogShape, NorthboundShape, WebShape
from gateway.config.site_reactive import ReactiveShape
from gateway.config.site_words import (
    DeviceUrl,
    Member,
    Name,
    NodeUrl,
    Origin,
    PublicKey,
    Ramp,
    RatioPpm,
    Title,
)


class SiteIdShape(Shape):
    """Which site this is."""

    id: Name = described("Name in MQTT topics and in the ledger", trust="engineer", example="elm")
    name: Title = described("Name for people", trust="engineer", example="Elm Street")
    timezone: str = described(
        "Where people read times; the gateway itself keeps UTC",
        trust="operator",
        example="Europe/Madrid",
    )


class DeviceShape(Shape):
    """One device the gateway speaks to."""

    profile: str = described(
        "Profile of the device model: a shipped name or a path ending in .yaml",
        trust="engineer",
        example="sop-station-v1",
    )
    url: DeviceUrl = described(
        "Where it answers", trust="engineer", example='"modbus+tcp://127.0.0.1:5020"'
    )
    unit: Whole | None = described(
        "Modbus unit; the profile's when left out", trust="engineer", default=None, ge=0, le=255
    )


class DcShape(Shape):
    """The DC bus between the converters."""

    v_nominal: Annotated[int, Quantity("voltage", scale=10, bounds=("10 V", "1000 kV"))] = (
        described("Nominal voltage", trust="engineer", example="800 V")
    )
    v: Annotated[tuple[int, int], Span("voltage", scale=10, bounds=("0 V", "1000 kV"))] = described(
        "Lowest and highest voltage at which power may flow",
        trust="engineer",
        example="[720 V, 880 V]",
    )
    throughput: Annotated[int, Quantity("power", bounds=("1 W", "1000 MW"))] = described(
        "Most power that may cross the bus", trust="engineer", example="500 kW"
    )


class LossesShape(Shape):
    """Converter loss as parts of the rating: a + b·i + c·i², i = S/Sn."""

    a: RatioPpm = described("No-load loss", trust="engineer", example="0.4 %")
    b: RatioPpm = described("Loss proportional to current", trust="engineer", example="0.6 %")
    c: RatioPpm = described(
        "Loss proportional to current squared", trust="engineer", example="0.6 %"
    )


class HeartbeatShape(Shape):
    """Sign of life to the station and what it does without it."""

    period: Annotated[int, Quantity("time", scale=1000, bounds=("50 ms", "60 s"))] = described(
        "Time between heartbeats", trust="engineer", example="1 s"
    )
    device_timeout: Annotated[int, Quantity("time", scale=1000, bounds=("200 ms", "600 s"))] = (
        described(
            "The station acts on its own after this time without one",
            trust="engineer",
            example="5 s",
        )
    )
    on_loss: Literal["ramp_zero", "block"] = described(
        "What the station then does", trust="engineer", default="ramp_zero", example="ramp_zero"
    )


class GuardShape(Shape):
    """Asset limits that every write obeys, whoever asks."""

    p: Annotated[tuple[int, int], Span("power")] = described(
        "Lowest and highest active power; positive injects into the feeder",
        trust="engineer",
        example="[-230 kW, 230 kW]",
    )
    ramp: Ramp = described(
        "Fastest change of power: of the rating, or absolute", trust="engineer", example="20 %/s"
    )
    v: Annotated[tuple[int, int], Span("voltage", scale=10, bounds=("0 V", "1000 kV"))] = described(
        "Feeder voltage inside which power may flow", trust="engineer", example="[360 V, 440 V]"
    )


class TerminalShape(Shape):
    """One AC connection of the SOP."""

    index: Whole | None = described(
        "Place in the station's register map, from 0; with converters left out, or their order",
        trust="engineer",
        default=None,
        example="0",
        ge=0,
        le=63,
    )
    meter: str = described("Device name of the meter that settles", trust="engineer", example="m1")
    domain: Name = described(
        "Region behind the terminal as market documents name it", trust="market", example="region-a"
    )
    s: Annotated[int, Quantity("apparent_power", bounds=("1 VA", "1000 MVA"))] = described(
        "Rating of the converter", trust="engineer", example="250 kVA"
    )
    guard: GuardShape = described(
        "Asset limits",
        trust="engineer",
        example="{p: [-230 kW, 230 kW], ramp: 20 %/s, v: [360 V, 440 V]}",
    )
    reactive: ReactiveShape | None = described(
        "Reactive power it gives besides; none when left out",
        trust="engineer",
        default=None,
        example="{q: 20 kvar}",
    )
    capability: str | None = described(
        "File of `test sweep --save`, relative to the site file: narrows the guard",
        trust="engineer",
        default=None,
        example="capability-T2.yaml",
    )
    converter: str | None = described(
        "Device name of the terminal's own controller: at every terminal, in place of `station`",
        trust="engineer",
        default=None,
        example="c1",
    )


class SopShape(Shape):
    """One soft open point."""

    station: str | None = described(
        "Device name of the one controller of all terminals, where they have none of their own",
        trust="engineer",
        default=None,
        example="station",
    )
    master: str = described(
        "Terminal that holds the DC voltage; its power is the residual",
        trust="engineer",
        example="T1",
    )
    dc: DcShape = described(
        "DC bus",
        trust="engineer",
        example="{v_nominal: 800 V, v: [720 V, 880 V], throughput: 500 kW}",
    )
    losses: LossesShape = described(
        "Loss curve of a converter", trust="engineer", example="{a: 0.4 %, b: 0.6 %, c: 0.6 %}"
    )
    heartbeat: HeartbeatShape = described(
        "Sign of life",
        trust="engineer",
        example="{period: 1 s, device_timeout: 5 s, on_loss: ramp_zero}",
    )
    rearm: Literal["manual", "auto"] = described(
        "After a fail-safe: wait for `sopgw arm`, or go on when all permissives hold",
        trust="engineer",
        default="manual",
        example="manual",
    )
    terminals: dict[Name, TerminalShape] = described(
        "AC connections by name", trust="engineer", example="{T1: …, T2: …}"
    )


class SignerShape(Shape):
    """A market operator whose signature counts."""

    name: Name = described("Name in reports and in the ledger", trust="market", example="market-1")
    key: PublicKey = described(
        "Raw Ed25519 public key in BASE64",
        trust="market",
        example='"11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="',
    )


class NodeShape(Shape):
    """The gateway's own node of a market on the ledger (``sopledger node run``)."""

    url: NodeUrl = described("Its door", trust="engineer", example="http://127.0.0.1:8470")
    party: Name = described("The gateway's name in the market", trust="market", example="gw")
    ca: str | None = described(
        "Certificates that may sign an https door's; the system's when left out",
        trust="engineer",
        default=None,
    )
    certificate: str | None = described(
        "Our certificate for the door, PEM", trust="secadm", default=None
    )
    key: Secret | None = described("Where its private key lies", trust="secadm", default=None)


class MarketShape(BrokerShape):
    """Where settled trades come from and which of them count."""

    signers: tuple[SignerShape, ...] = described(
        "Keys whose signatures count",
        trust="market",
        example="[{name: market-1, key: …}]",
        min_length=1,
    )
    node: NodeShape | None = described(
        "Own market node: final trades are taken from it, answers and deliveries given to it",
        trust="market",
        default=None,
        example="{url: http://127.0.0.1:8470, party: gw}",
    )
    required: Whole = described(
        "How many of them must have signed", trust="market", default=1, example="1", ge=1, le=64
    )
    gate: Annotated[int, Quantity("time", 1, ("0 s", "24 h"))] = described(
        "A trade must arrive this long before its interval", trust="market", example="2 min"
    )
    horizon: Annotated[int, Quantity("time", 1, ("1 min", "30 d"))] = described(
        "Trades further ahead are refused", trust="market", example="48 h"
    )
    over_limit: Literal["curtail", "refuse"] = described(
        "Trades beyond a limit: cut fairly, or refuse",
        trust="market",
        default="curtail",
        example="curtail",
    )


class CheckpointShape(Shape):
    """How often the ledger's head is signed at the latest."""

    every: Annotated[int, Quantity("time", 1, ("1 s", "1 h"))] = described(
        "Longest time until new entries are published and offered to the witnesses",
        trust="auditor",
        example="10 s",
    )


class WitnessShape(Shape):
    """Somebody elsewhere who cosigns checkpoints."""

    url: Annotated[
        str, Word(r"https?://[^\s]+", "the address of a witness", "https://witness.example")
    ] = described("Where it answers", trust="auditor", example="https://witness.example")
    key: Annotated[
        str,
        Word(
            r"[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+",
            "a verifier key (name+hash+key)",
            "witness.example+3f2a91c0+AT…",
        ),
    ] = described(
        "Its verifier key in signed-note form",
        trust="auditor",
        example="witness.example+3f2a91c0+AT…",
    )


class WitnessTlsShape(Shape):
    """What the gateway shows witnesses, and whom it believes to be one."""

    ca: str = described(
        "Certificates that may sign the witnesses'", trust="secadm", example="witnesses-ca.pem"
    )
    certificate: str = described(
        "Our certificate for them, PEM", trust="secadm", example="gateway.pem"
    )
    key: Secret = described(
        "Where its private key lies", trust="secadm", example="{secret: witness-tls}"
    )


class LedgerShape(Shape):
    """The gateway's record."""

    dir: str = described(
        "Folder, relative to the site file", trust="engineer", example="ledger", min_length=1
    )
    origin: Origin = described(
        "Its name, first line of every checkpoint; never change it",
        trust="auditor",
        example="bench4.example/SOP-1",
    )
    key: Secret = described(
        "Where the signing key lies", trust="auditor", example="{file: ledger.key}"
    )
    passphrase: Secret | None = described(
        "Where the passphrase of the signing key and of `answers.key` lies",
        trust="auditor",
        default=None,
        example="{secret: ledger-passphrase}",
    )
    checkpoint: CheckpointShape = described(
        "Signed heads",
        trust="auditor",
        default=CheckpointShape.model_validate({"every": "10 s"}),
        example="{every: 10 s}",
    )
    witnesses: tuple[WitnessShape, ...] = described(
        "Who cosigns; any one of them anchors the ledger",
        trust="auditor",
        default=(),
        example="[]",
        max_length=16,
    )
    tls: WitnessTlsShape | None = described(
        "For witnesses whose doors ask for certificates",
        trust="secadm",
        default=None,
        example="{ca: …, certificate: …, key: …}",
    )
    policy: str | None = described(
        "C2SP tlog-policy that names witnesses and their quorum, instead of `witnesses`; relative "
        "to the site file",
        trust="auditor",
        default=None,
        example="witnesses.policy",
    )


class RuntimeShape(Shape):
    """Pace of the gateway."""

    # A slower one would pause the heartbeat (after 2 s, half a second of it for the scan itself),
    # find its telemetry stale (3 s) or miss the unit's watchdog (10 s).
    scan: Annotated[int, Quantity("time", 1000, ("100 ms", "1500 ms"))] = described(
        "Time between two decisions", trust="engineer", default=1000, example="1 s"
    )
    meter_poll: Annotated[int, Quantity("time", 1000, ("200 ms", "60 s"))] = described(
        "Time between two meter readings; every second near a boundary",
        trust="engineer",
        default=5000,
        example="5 s",
    )
    clock: Literal["kernel", "assumed"] = described(
        "Whether the kernel must say that UTC is disciplined, or it is taken on trust",
        trust="engineer",
        default="kernel",
        example="kernel",
    )
    restarts: Whole = described(
        "So many starts without an orderly end in 10 min, then it observes until `sopgw arm`",
        trust="engineer",
        default=5,
        example="5",
        ge=1,
        le=1000,
    )


class LimitsShape(Shape):
    """Limits that others may set during operation."""

    dso_mask: Literal["none", "signed"] = described(
        "Feeder limits of the network operator: none, or those signed by a key below",
        trust="dso",
        default="none",
        example="none",
    )
    operators: tuple[SignerShape, ...] = described(
        "Network operators whose signed limits count",
        trust="dso",
        default=(),
        example="[{name: dso-1, key: …}]",
    )


class AccessShape(Shape):
    """Who may ask the running gateway for what, through its socket; without it the owner alone."""

    viewers: tuple[Member, ...] = described(
        "May look, and stop", trust="secadm", default=(), example="[group:sopgw]"
    )
    operators: tuple[Member, ...] = described(
        "May arm, set the mode, look after alarms", trust="secadm", default=(), example="[user:ann]"
    )
    engineers: tuple[Member, ...] = described(
        "May set powers by hand, borrow control, change limits two together",
        trust="secadm",
        default=(),
        example="[uid:1000, uid:1001]",
    )
    secadm: tuple[Member, ...] = described(
        "May see who has which role; command nothing", trust="secadm", default=()
    )
    secaud: tuple[Member, ...] = described(
        "May see who has which role; command nothing", trust="secadm", default=()
    )


class SiteShape(Shape):
    """A site file."""

    version: Literal[1] = described("Version of this format", trust="engineer", example="1")
    site: SiteIdShape = described(
        "Which site",
        trust="engineer",
        example="{id: elm, name: Elm Street, timezone: Europe/Madrid}",
    )
    mode: Literal["off", "blocked", "test", "test-blocked", "on"] = described(
        "Operator's setting at start; `blocked` computes and never writes",
        trust="operator",
        default="blocked",
        example="blocked",
    )
    devices: dict[Name, DeviceShape] = described(
        "What the gateway speaks to, by name",
        trust="engineer",
        example="{station: {profile: …, url: …}}",
    )
    sops: dict[Name, SopShape] = described(
        "Soft open points by name", trust="engineer", example="{SOP-1: …}", min_length=1
    )
    market: MarketShape = described(
        "Settled trades", trust="market", example="{broker: …, signers: […]}"
    )
    ledger: LedgerShape = described(
        "The record", trust="auditor", example="{dir: ledger, origin: …, key: {file: ledger.key}}"
    )
    runtime: RuntimeShape = described(
        "Pace", trust="engineer", default=RuntimeShape(), example="{scan: 1 s, meter_poll: 5 s}"
    )
    limits: LimitsShape = described(
        "Limits others set", trust="dso", default=LimitsShape(), example="{dso_mask: none}"
    )
    web: WebShape | None = described(
        "Page for people; off when left out",
        trust="engineer",
        default=None,
        example="{listen: 127.0.0.1:8080}",
    )
    northbound: NorthboundShape = described(
        "Doors for other programs, read only",
        trust="engineer",
        default=NorthboundShape(),
        example="{opcua: …, mqtt: …}",
    )
    log: LogShape = described(
        "The service's log",
        trust="engineer",
        default=LogShape(),
        example="{format: json, syslog: logs.example:6514}",
    )
    access: AccessShape = described(
        "Roles of people on this machine; without it the owner of the service alone, as engineer",
        trust="secadm",
        default=AccessShape(),
        example="{operators: [user:ann], engineers: [user:bob, user:cy]}",
    )
