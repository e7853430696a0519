"""What people and monitors see of a site: one frozen view, made once a scan.

The page, the metrics and the terminal view read nothing else of the gateway's present; what was
they read from the ledger through ``Records``. Fields are None where nothing is known, never zero.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gateway.model.limits import FeederLimits
from gateway.model.telemetry import StationTelemetry
from gateway.model.terminal import Sop

FAULTS = (
    "dc_overvoltage", "dc_undervoltage", "ac_overvoltage", "ac_undervoltage", "over_frequency",
    "under_frequency", "over_current", "over_temperature", "earth_fault", "pll_loss",
    "precharge_timeout", "breaker_fail", "watchdog", "estop", "door", "internal",
)  # fmt: skip
LIMITS = ("current", "rating", "dc_voltage", "temperature", "ramp", "ac_voltage", "external")
Corner = tuple[int, int]  # (W, var) of a measured capability polygon
Counts = tuple[int, ...]  # of polls, by POLL_BOUNDS_MS
POLL_BOUNDS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500)  # upper bounds; one more is "above"


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalView:
    """One terminal now; powers positive when the converter injects into the feeder."""

    id: str
    domain: str
    state: str
    s_va: int
    p_w_min: int
    p_w_max: int
    set_p_w: int | None = None
    set_q_var: int | None = None
    p_w: int | None = None  # as the converter says
    q_var: int | None = None
    meter_p_w: int | None = None  # as the settling meter says
    v_dv: int | None = None
    s_va_available: int | None = None
    master: bool = False
    faults: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    polygon: tuple[Corner, ...] = ()
    meter: str = ""
    meter_import_wh: int | None = None
    meter_export_wh: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeView:
    """One trade in one interval, as it stands now."""

    id: str
    out_terminal: str
    in_terminal: str
    start_us: int
    end_us: int
    contracted_wh: int
    planned_wh: int | None = None
    delivered_wh: int | None = None  # so far, by meter
    status: str = "planned"
    reasons: tuple[str, ...] = ()
    receipt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedView:
    """One trade that was refused; without an id where the message could not be read."""

    id: str
    utc_us: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmView:
    """One alarm; its words and what to do stand in the catalogues under its code."""

    code: str
    priority_level: int  # 1 high … 3 low, 4 diagnostic
    since_us: int
    detail: str = ""
    active: bool = True
    acknowledged: bool = False
    shelved_until_us: int | None = None  # somebody took it out of sight for so long
    what: str = ""  # words of the site's own list, for a code that the catalogues do not know
    response: str = ""

    @property
    def stands(self) -> bool:
        """Whether it is active and in sight: only such are counted."""
        return self.active and self.shelved_until_us is None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """One device's link: its age and what its polls took."""

    name: str
    kind: str
    address: str
    connected: bool
    age_ms: int | None = None
    request_count: int = 0
    error_count: int = 0
    last_error: str = ""
    stale_after_ms: int = 5_000  # several of its own poll periods
    frozen: bool = False  # it answers, but its sign of life stands still
    unsure: bool = False  # it answers, but calls its own values uncertain, or they cannot be
    poll_counts: Counts = (0,) * (len(POLL_BOUNDS_MS) + 1)
    poll_sum_ms: int = 0

    @property
    def stale(self) -> bool:
        """Whether what it said last is no value of now: it is silent, late, frozen or unsure."""
        late = self.age_ms is None or self.age_ms > self.stale_after_ms
        return not self.connected or self.frozen or self.unsure or late


@dataclass(frozen=True, slots=True, kw_only=True)
class PointView:
    """One value as read: decoded, raw, with quality and age."""

    device: str
    point: str
    value: str
    unit: str
    raw: str
    quality: str
    age_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerView:
    """The ledger as an operator sees it."""

    size: int
    origin: str = ""
    checkpoint_size: int = 0
    checkpoint_us: int | None = None
    root: str = ""
    anchored: bool = False  # some evidence left the box
    checked_us: int | None = None  # last full verification
    checked_ok: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederView:
    """One limit of the network operator for a region, and how long his word holds."""

    domain: str
    terminals: tuple[str, ...]
    p_w_min: int
    p_w_max: int
    cause: str
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledView:
    """All intervals of one outcome since the ledger began; sums that only grow."""

    outcome: str  # delivered | partial | failed
    count: int
    contracted_wh: int
    delivered_wh: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step of the open commissioning run."""

    number: str
    title: str
    status: str  # passed | failed | open | next | waiting
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """The whole site at one instant."""

    utc_us: int
    site: str
    sop: str
    mode: str
    state: str
    ledger: LedgerView
    terminals: tuple[TerminalView, ...] = ()
    name: str = ""
    reasons: tuple[str, ...] = ()
    simulated: bool = False
    time_quality: str = "good"
    clock_error_ms: int | None = None
    v_dc_dv: int | None = None
    v_dc_dv_min: int | None = None
    v_dc_dv_max: int | None = None
    loss_w: int | None = None
    heartbeat_ds: int | None = None  # left until the device's watchdog acts, 0.1 s
    trades: tuple[TradeView, ...] = ()
    unlisted_us: int | None = None  # from here on not every open interval is among the trades
    refused: tuple[RefusedView, ...] = ()  # the latest ones, newest first
    alarms: tuple[AlarmView, ...] = ()
    devices: tuple[DeviceView, ...] = ()
    points: tuple[PointView, ...] = ()
    steps: tuple[StepView, ...] = ()
    settled: tuple[SettledView, ...] = ()
    feeder: tuple[FeederView, ...] = ()
    version: str = ""
    config_sha256: str = ""
    started_us: int | None = None
    scan_us: int | None = None  # end of the last scan; None where the view itself is one

    @property
    def scanned_us(self) -> int:
        """When the gateway last looked: this stands still where its scan does."""
        return self.utc_us if self.scan_us is None else self.scan_us

    @property
    def stale(self) -> tuple[str, ...]:
        """Names of devices whose values are too old or not believed, or that do not answer."""
        return tuple(d.name for d in self.devices if d.stale)

    @property
    def station_stale(self) -> bool:
        """Whether what the converters say is older than it may be: then it is the last known.

        Converters of their own are read all or none: one that is silent makes all of it old.
        """
        meters = {t.meter for t in self.terminals}
        return any(name not in meters for name in self.stale)

    def old(self, point: PointView) -> bool:
        """Whether a value is the last one known; one of all converters stands under the SOP."""
        return self.station_stale if point.device == self.sop else point.device in self.stale


class Records(Protocol):
    """What the page may ask of the past; every answer comes from the ledger."""

    async def trade_entries(self, trade_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the entries of a trade's intervals in order, empty when it is unknown."""
        ...

    async def latest_entries(self, count: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest entries, newest last."""
        ...

    async def receipt(self, trade_id: str) -> bytes | None:
        """Return a trade's receipt file, None while there is none; raises ``ReceiptNotMade``."""
        ...


def bit_words(bits: int, words: Sequence[str]) -> tuple[str, ...]:
    """Return the words of the bits that are set; a bit without a word gets its number."""
    return tuple(
        words[k] if k < len(words) else f"bit {k}"
        for k in range(bits.bit_length())
        if bits >> k & 1
    )


def observe(counts: Sequence[int], duration_ms: int) -> Counts:
    """Return the poll counts with one more poll of that duration."""
    place = bisect_left(POLL_BOUNDS_MS, duration_ms)
    return tuple(n + (k == place) for k, n in enumerate(counts))


class PollTimes:
    """How long the polls of each device took, since the start."""

    def __init__(self) -> None:
        self._counts: dict[str, Counts] = {}
        self._sum_ms: dict[str, int] = {}
        self._errors: dict[str, int] = {}

    def take(self, name: str, duration_ms: int, *, answered: bool) -> None:
        """Count one poll of a device."""
        none: Counts = (0,) * (len(POLL_BOUNDS_MS) + 1)
        self._counts[name] = observe(self._counts.get(name, none), duration_ms)
        self._sum_ms[name] = self._sum_ms.get(name, 0) + duration_ms
        self._errors[name] = self._errors.get(name, 0) + (not answered)

    def into(self, view: DeviceView) -> DeviceView:
        """Return a device's view with its polls."""
        counts = self._counts.get(view.name)
        if counts is None:
            return view
        return replace(
            view,
            request_count=sum(counts),
            error_count=self._errors[view.name],
            poll_counts=counts,
            poll_sum_ms=self._sum_ms[view.name],
        )


def poll_quantile(counts: Sequence[int], percent: int) -> int | None:
    """Return the bound in ms that so many per cent of the polls kept; None above the last."""
    wanted, seen = -(-sum(counts) * percent // 100), 0
    for bound_ms, count in zip(POLL_BOUNDS_MS, counts, strict=False):
        seen += count
        if seen >= wanted:
            return bound_ms
    return None


def feeder_views(limits: FeederLimits | None, sop: Sop) -> tuple[FeederView, ...]:
    """Return the network operator's limits by region; none where he sent none."""
    if limits is None:
        return ()
    return tuple(
        FeederView(
            domain=limit.domain,
            terminals=tuple(t.id for t in sop.terminals if t.domain == limit.domain),
            p_w_min=limit.p_w_min,
            p_w_max=limit.p_w_max,
            cause=limit.cause,
            start_us=limits.valid.start_ms * 1000,
            end_us=limits.valid.end_ms * 1000,
        )
        for limit in limits.limits
    )


def settled_views(sums: Mapping[str, tuple[int, int, int]]) -> tuple[SettledView, ...]:
    """Return the sums of the gateway's state: by outcome the count, contracted and delivered Wh."""
    return tuple(
        SettledView(outcome=k, count=n, contracted_wh=contracted_wh, delivered_wh=delivered_wh)
        for k, (n, contracted_wh, delivered_wh) in sorted(sums.items())
    )


def terminal_views(
    sop: Sop,
    station: StationTelemetry | None,
    meters: Mapping[str, Mapping[str, Any]],
    polygons: Mapping[str, tuple[Corner, ...]] | None = None,
) -> tuple[TerminalView, ...]:
    """Return the terminals of a SOP from the last telemetry; without it, what the site says.

    Args:
        sop: the soft open point of the site.
        station: its last telemetry, None before the first.
        meters: last good row of a ``reading`` entry by terminal.
        polygons: measured capability by terminal, where a sweep was made.
    """
    told = {t.id: t for t in station.terminals} if station else {}
    views = []
    for terminal in sop.terminals:
        now = told.get(terminal.id)
        reading = meters.get(terminal.id)
        views.append(
            TerminalView(
                id=terminal.id,
                domain=terminal.domain,
                state=now.state.name if now else "UNKNOWN",
                s_va=terminal.s_va,
                p_w_min=terminal.p_w_min,
                p_w_max=terminal.p_w_max,
                set_p_w=now.p_w_set_active if now and terminal.id != sop.master else None,
                p_w=now.p_w if now else None,
                q_var=now.q_var if now else None,
                meter_p_w=reading["p_w"] if reading else None,
                v_dv=now.v_dv if now else None,
                s_va_available=now.s_va_available if now else None,
                master=terminal.id == sop.master,
                faults=bit_words(now.fault_bits, FAULTS) if now else (),
                limits=bit_words(now.limit_bits, LIMITS) if now else (),
                polygon=(polygons or {}).get(terminal.id, ()),
                meter=terminal.meter,
                meter_import_wh=reading["import_wh"] if reading else None,
                meter_export_wh=reading["export_wh"] if reading else None,
            )
        )
    return tuple(views)
