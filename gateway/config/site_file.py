"""Reads a site file into frozen values; every mistake of it and of its profiles, or a site."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import (
    profile_file,
    shape,
    site_capability,
    site_checks,
    site_controllers,
    site_shape,
)
from gateway.config.problem import Problem
from gateway.config.profile_drivers import meter_points_missing
from gateway.config.secret import credential, read_secret
from gateway.config.secret_shape import SecretShape
from gateway.config.site_access import access_of
from gateway.config.site_doors import (
    LogConfig,
    Northbound,
    WebConfig,
    log_of,
    northbound_of,
    web_of,
)
from gateway.config.site_effective import canonical, effective
from gateway.config.site_reactive import reactive_of
from gateway.config.site_terminals import terminal_fields
from gateway.config.yaml_reader import Document, read_file, read_text
from gateway.core.access import Access
from gateway.devices.profile import Kind, Profile
from gateway.market.papers import Papers
from gateway.model.capability import Capability
from gateway.model.terminal import LossCurve, Sop, Terminal

PREFIX = "C"
SECRETS = Path("/etc/sopgw/secrets")
ANSWER_KEY = "answers.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceConfig:
    """One device: where it answers and what is known of its model."""

    name: str
    profile: Profile
    url: str
    unit: int
    profile_sha256: str  # of the profile file's bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatConfig:
    """Sign of life to the station; ``on_loss`` is ``ramp_zero`` or ``block``."""

    period_ms: int
    device_timeout_ms: int
    on_loss: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SopConfig:
    """One SOP with what carries out its instructions: one station, or a converter a terminal."""

    sop: Sop  # its limits narrowed to the measured capability, where there is one
    rated: Sop  # its limits as the guard says: what a new measurement may visit
    station: str  # name of the device; empty where the terminals have converters
    converters: Mapping[str, str]  # names of devices by terminal; empty where there is a station
    v_dc_dv_nominal: int
    heartbeat: HeartbeatConfig
    rearm: str  # manual | auto
    measured: Mapping[str, Capability]  # by terminal, where a capability file is named

    @property
    def separate(self) -> bool:
        """Tell whether each terminal has a controller of its own."""
        return bool(self.converters)

    @property
    def controllers(self) -> tuple[str, ...]:
        """Return the devices that take setpoints: the station, or the converters."""
        return tuple(self.converters.values()) or (self.station,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A market operator: ``key`` is the raw Ed25519 public key."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """The gateway's own node of a market on the ledger, and its name there."""

    url: str
    party: str
    papers: Papers | None = None  # of an https door with an authority of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """Where settled trades come from and which of them count."""

    broker: str
    username: str | None
    password_file: Path | None
    ca_file: Path | None
    certificate: Path | None
    client_key_file: Path | None
    signers: tuple[Signer, ...]
    node: NodeConfig | None
    required_count: int
    gate_s: int
    horizon_s: int
    over_limit: str  # curtail | refuse
    operators: tuple[Signer, ...] = ()  # network operators whose feeder limits count


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Somebody elsewhere who cosigns checkpoints; ``vkey`` in signed-note form."""

    url: str
    vkey: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """The gateway's record; ``dir`` and ``key_file`` are resolved against the site file."""

    dir: Path
    origin: str
    key_file: Path
    answer_key_file: Path  # signs acknowledgements and deliveries
    passphrase_file: Path | None
    checkpoint_every_s: int
    witnesses: tuple[Witness, ...]
    policy_file: Path | None
    tls: tuple[Path, Path, Path] | None = None  # towards witnesses: authority, certificate, key

    def passphrase(self) -> bytes | None:
        """Read the passphrase of the keys, where one is named.

        Raises ConfigFileError when it is missing or readable by others than its owner.
        """
        if self.passphrase_file is None:
            return None
        return read_secret(self.passphrase_file).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeConfig:
    """Pace of the gateway."""

    scan_ms: int
    meter_poll_ms: int
    clock: str
    restarts_count_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Everything a site file says, checked."""

    id: str
    name: str
    timezone: str
    mode: str  # off | blocked | test | test-blocked | on
    devices: dict[str, DeviceConfig]
    sops: tuple[SopConfig, ...]
    market: MarketConfig
    ledger: LedgerConfig
    runtime: RuntimeConfig
    web: WebConfig | None
    northbound: Northbound
    log: LogConfig
    access: Access
    effective: dict[str, Any]  # base units, no secrets, no machine paths
    sha256: str  # of ``effective`` as canonical JSON
    path: Path
    warnings: tuple[Problem, ...] = ()

    def sop(self, sop_id: str) -> SopConfig:
        """Return a SOP by id; KeyError when there is none."""
        for config in self.sops:
            if config.sop.id == sop_id:
                return config
        raise KeyError(sop_id)


def load_site(path: Path) -> Site:
    """Read a site file and its profiles; raise ConfigFileError with every problem."""
    document, site = check_site(path)
    document.raise_if_failed()
    assert site is not None, "a site file without errors can be built"
    return site


def check_site(path: Path) -> tuple[Document, Site | None]:
    """Read a site file; the document holds every problem, warnings included."""
    return _build(read_file(path, prefix=PREFIX), path)


def site_from_text(text: str, *, path: Path) -> tuple[Document, Site | None]:
    """Like check_site for text that would stand at ``path``."""
    return _build(read_text(text, file=str(path), prefix=PREFIX), path)


def _build(document: Document, path: Path) -> tuple[Document, Site | None]:
    if document.root is None or document.root.kind != "map":
        return document, None
    if document.root.key("profile") and not document.root.key("site"):
        message = "this is a device profile, not a site file"
        help_text = f"sopgw profile check {document.file}"
        document.add(17, message, document.root.key("profile"), help=help_text)
        return document, None
    found = shape.held_against(document, site_shape.SiteShape)
    profiles = _profiles(document, path.parent)
    kinds = {name: str(p[0].kind) for name, p in profiles.items() if p is not None}
    counts = {name: p[0].terminal_count for name, p in profiles.items() if p is not None}
    counts = {name: count for name, count in counts.items() if count}
    lacking = {
        name: meter_points_missing(p[0])
        for name, p in profiles.items()
        if p is not None and p[0].kind is Kind.METER
    }
    undrivable = {
        name: site_controllers.undrivable(p[0])
        for name, p in profiles.items()
        if p is not None and p[0].kind is Kind.CONVERTER
    }
    site_checks.check(
        document,
        kinds=kinds,
        terminal_counts=counts,
        lacking=lacking,
        undrivable=undrivable,
        profiles={name: p[0] for name, p in profiles.items() if p is not None},
    )
    measured = site_capability.measured_in(document, path.parent)
    if found is None or document.failed:
        return document, None
    sops = [_sop(sop_id, sop, measured) for sop_id, sop in found.sops.items()]
    for config in sops:
        site_capability.warn_where_much_is_lost(document, config.rated, config.sop)
    return document, _site(document, found, profiles, path, tuple(sops))


def _profiles(document: Document, folder: Path) -> dict[str, tuple[Profile, str] | None]:
    """Read the profile of every device; their problems join the site's."""
    assert document.root is not None
    devices = document.root.get("devices")
    read: dict[str, tuple[Profile, str] | None] = {}
    by_device: dict[str, tuple[Profile, str] | None] = {}
    search = (folder, folder / "profiles")
    for name, _, device in devices.pairs() if devices is not None else ():
        node = device.get("profile")
        wanted = device.word("profile")
        if node is None or wanted is None:
            continue
        if wanted not in read:
            path = profile_file.find_profile(wanted, search, beside=search)
            if path is None:
                near = profile_file.nearest_profile(wanted, search)
                help_text = f"did you mean `{near}`?" if near else "`sopgw profile ls` lists them"
                message = f"there is no profile {shape.quoted(wanted)}"
                document.add(24, message, node, help=help_text)
                read[wanted] = None
            else:
                inner, profile = profile_file.check_profile(path)
                document.problems += [p for p in inner.problems if p.severity == "error"]
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if profile else ""
                read[wanted] = (profile, digest) if profile else None
        by_device[name] = read[wanted]
    return by_device


def _site(
    document: Document,
    found: site_shape.SiteShape,
    profiles: dict[str, tuple[Profile, str] | None],
    path: Path,
    sops: tuple[SopConfig, ...],
) -> Site:
    devices = {}
    for name, device in found.devices.items():
        known = profiles[name]
        assert known is not None, "a device without profile is an error"
        profile, digest = known
        devices[name] = DeviceConfig(
            name=name,
            profile=profile,
            url=device.url,
            unit=profile.modbus.unit if device.unit is None else device.unit,
            profile_sha256=digest,
        )
    decides = effective(
        found,
        devices={d.name: _effective_device(d) for d in devices.values()},
        sops={c.sop.id: _effective_sop(c) for c in sops},
    )
    return Site(
        id=found.site.id,
        name=found.site.name,
        timezone=found.site.timezone,
        mode=found.mode,
        devices=devices,
        sops=sops,
        market=_market(found.market, found.limits, path.parent),
        ledger=_ledger(found.ledger, path.parent),
        runtime=RuntimeConfig(
            scan_ms=found.runtime.scan,
            meter_poll_ms=found.runtime.meter_poll,
            clock=found.runtime.clock,
            restarts_count_max=found.runtime.restarts,
        ),
        web=web_of(found.web, path.parent, secret_path),
        northbound=northbound_of(found.northbound, path.parent, secret_path),
        log=log_of(found.log, path.parent, secret_path),
        access=access_of(found.access),
        effective=decides,
        sha256=hashlib.sha256(canonical(decides)).hexdigest(),
        path=path,
        warnings=tuple(document.problems),
    )


def _sop(
    sop_id: str,
    found: site_shape.SopShape,
    measured: Mapping[tuple[str, str], Capability],
) -> SopConfig:
    indexes = site_controllers.indexes_of(found)
    terminals = tuple(
        Terminal(
            id=terminal_id,
            index=indexes[terminal_id],
            domain=t.domain,
            meter=t.meter,
            s_va=t.s,
            p_w_min=t.guard.p[0],
            p_w_max=t.guard.p[1],
            ramp_w_per_s=ramp_w_per_s(t.guard.ramp, s_va=t.s),
            v_dv_min=t.guard.v[0],
            v_dv_max=t.guard.v[1],
            reactive=reactive_of(t.reactive),
        )
        for terminal_id, t in found.terminals.items()
    )
    rated = Sop(
        id=sop_id,
        master=found.master,
        terminals=tuple(sorted(terminals, key=lambda t: t.index)),
        throughput_w=found.dc.throughput,
        losses=LossCurve(a_ppm=found.losses.a, b_ppm=found.losses.b, c_ppm=found.losses.c),
        v_dc_dv_min=found.dc.v[0],
        v_dc_dv_max=found.dc.v[1],
    )
    return SopConfig(
        sop=site_capability.narrowed(rated, measured),
        rated=rated,
        station=found.station or "",
        converters={
            t.id: device
            for t in rated.terminals
            if (device := found.terminals[t.id].converter) is not None
        },
        v_dc_dv_nominal=found.dc.v_nominal,
        heartbeat=HeartbeatConfig(
            period_ms=found.heartbeat.period,
            device_timeout_ms=found.heartbeat.device_timeout,
            on_loss=found.heartbeat.on_loss,
        ),
        rearm=found.rearm,
        measured={t: c for (s, t), c in measured.items() if s == sop_id},
    )


def ramp_w_per_s(ramp: tuple[str, int], *, s_va: int) -> int:
    """Turn ``20 %/s`` of a rating, or ``50 kW/s``, into W/s, at least 1."""
    dimension, amount = ramp
    return max(1, amount * s_va // 1_000_000 if dimension == "ratio_rate" else amount)


def secret_path(found: SecretShape, folder: Path) -> Path:
    """Return where a secret lies; nothing is read here."""
    if found.file is not None:
        return folder / found.file
    assert found.secret is not None, "checked: one of the two is given"
    return credential(found.secret) or SECRETS / found.secret


def _node(found: site_shape.NodeShape, folder: Path) -> NodeConfig:
    papers = Papers(
        ca_file=folder / found.ca if found.ca else None,
        certificate=folder / found.certificate if found.certificate else None,
        key_file=secret_path(found.key, folder) if found.key else None,
    )
    named = found.url.startswith("https://")
    return NodeConfig(url=found.url, party=found.party, papers=papers if named else None)


def _market(
    found: site_shape.MarketShape, limits: site_shape.LimitsShape, folder: Path
) -> MarketConfig:
    return MarketConfig(
        broker=found.broker,
        username=found.username,
        password_file=secret_path(found.password, folder) if found.password else None,
        ca_file=folder / found.ca if found.ca else None,
        certificate=folder / found.certificate if found.certificate else None,
        client_key_file=secret_path(found.key, folder) if found.key else None,
        signers=tuple(Signer(name=s.name, key=s.key) for s in found.signers),
        node=_node(found.node, folder) if found.node else None,
        required_count=found.required,
        gate_s=found.gate,
        horizon_s=found.horizon,
        over_limit=found.over_limit,
        operators=tuple(Signer(name=o.name, key=o.key) for o in limits.operators),
    )


def _ledger(found: site_shape.LedgerShape, folder: Path) -> LedgerConfig:
    key_file = secret_path(found.key, folder)
    # Nothing is written where secrets are handed over: that key is made beside the ledger.
    beside = key_file if found.key.file is not None else folder / found.dir
    return LedgerConfig(
        dir=folder / found.dir,
        origin=found.origin,
        key_file=key_file,
        answer_key_file=beside.with_name(ANSWER_KEY),
        passphrase_file=secret_path(found.passphrase, folder) if found.passphrase else None,
        checkpoint_every_s=found.checkpoint.every,
        witnesses=tuple(Witness(url=w.url, vkey=w.key) for w in found.witnesses),
        policy_file=folder / found.policy if found.policy else None,
        tls=_witness_tls(found.tls, folder) if found.tls else None,
    )


def _witness_tls(found: site_shape.WitnessTlsShape, folder: Path) -> tuple[Path, Path, Path]:
    return folder / found.ca, folder / found.certificate, secret_path(found.key, folder)


def _effective_device(device: DeviceConfig) -> dict[str, Any]:
    return {
        "profile": device.profile.id,
        "profile_sha256": device.profile_sha256,
        "url": device.url,
        "unit": device.unit,
    }


def _effective_sop(config: SopConfig) -> dict[str, Any]:
    sop = config.sop
    by = {"converters": dict(config.converters)} if config.separate else {"station": config.station}
    return {
        **by,
        "master": sop.master,
        "throughput_w": sop.throughput_w,
        "v_dc_dv_nominal": config.v_dc_dv_nominal,
        "v_dc_dv_min": sop.v_dc_dv_min,
        "v_dc_dv_max": sop.v_dc_dv_max,
        "losses": {"a_ppm": sop.losses.a_ppm, "b_ppm": sop.losses.b_ppm, "c_ppm": sop.losses.c_ppm},
        "heartbeat": {
            "period_ms": config.heartbeat.period_ms,
            "device_timeout_ms": config.heartbeat.device_timeout_ms,
            "on_loss": config.heartbeat.on_loss,
        },
        "rearm": config.rearm,
        "terminals": terminal_fields(sop),
    }
