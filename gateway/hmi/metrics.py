"""Metrics in the Prometheus text format: base units, no label that grows with time or trades."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate

from gateway.hmi.state import POLL_BOUNDS_MS, SettledView, SiteView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
JOULES_PER_WH = 3600
DAY_US = 86_400_000_000
STATUSES = ("planned", "running", "delivered", "partial", "failed", "refused", "cancelled")
OUTCOMES = ("cancelled", "delivered", "failed", "partial")  # of a reported interval

Sample = tuple[str, Mapping[str, str], float]


def render(view: SiteView) -> str:
    """Return every metric of a site as one exposition."""
    where = {"sop": view.sop}
    lines: list[str] = []
    families = (
        *_power(view, where),
        *_market(view, where),
        *_ledger(view, where),
        *_host(view),
        *_devices(view),
    )
    for name, kind, told, samples in families:
        found = list(samples)
        if not found:
            continue
        lines.append(f"# HELP {name} {told}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{full}{_labels(labels)} {_number(value)}" for full, labels, value in found]
    return "\n".join(lines) + "\n"


Family = tuple[str, str, str, Iterable[Sample]]


def _family(
    name: str, kind: str, told: str, samples: Iterable[tuple[Mapping[str, str], float | None]]
) -> Family:
    """Return a family; a value that is not known is left out rather than told as zero."""
    return name, kind, told, [(name, labels, v) for labels, v in samples if v is not None]


def _power(view: SiteView, where: Mapping[str, str]) -> list[Family]:
    # The last value of a silent device is no value of now; its counters stay what they were.
    stale = view.station_stale
    at = [({**where, "terminal": t.id}, t) for t in view.terminals if not stale]
    metered = [
        ({**where, "terminal": t.id}, t) for t in view.terminals if t.meter not in view.stale
    ]
    v_dc_dv, loss_w = (None, None) if stale else (view.v_dc_dv, view.loss_w)
    return [
        _family(
            "sopgw_terminal_active_power_watts",
            "gauge",
            "Active power of the converter, positive into the feeder.",
            ((labels, t.p_w) for labels, t in at),
        ),
        _family(
            "sopgw_terminal_reactive_power_vars",
            "gauge",
            "Reactive power of the converter.",
            ((labels, t.q_var) for labels, t in at),
        ),
        _family(
            "sopgw_setpoint_watts",
            "gauge",
            "Active power the device says it follows.",
            ((labels, t.set_p_w) for labels, t in at),
        ),
        _family(
            "sopgw_meter_active_power_watts",
            "gauge",
            "Active power of the settling meter, positive into the feeder.",
            ((labels, t.meter_p_w) for labels, t in metered),
        ),
        _family(
            "sopgw_meter_energy_joules_total",
            "counter",
            "The meter's counters; export while the converter injects.",
            (
                ({"meter": t.meter, "direction": way}, None if wh is None else wh * JOULES_PER_WH)
                for t in view.terminals
                for way, wh in (("export", t.meter_export_wh), ("import", t.meter_import_wh))
            ),
        ),
        _family(
            "sopgw_terminal_volts",
            "gauge",
            "Voltage at the terminal.",
            ((labels, None if t.v_dv is None else t.v_dv / 10) for labels, t in at),
        ),
        _family(
            "sopgw_terminal_available_voltamperes",
            "gauge",
            "Apparent power the converter can give now.",
            ((labels, t.s_va_available) for labels, t in at),
        ),
        _family(
            "sopgw_dc_link_volts",
            "gauge",
            "Voltage of the DC link.",
            [(where, None if v_dc_dv is None else v_dc_dv / 10)],
        ),
        _family("sopgw_loss_watts", "gauge", "Losses of all converters.", [(where, loss_w)]),
    ]


def _market(view: SiteView, where: Mapping[str, str]) -> list[Family]:
    counts: dict[str, int] = dict.fromkeys(STATUSES, 0)
    for trade in view.trades:
        counts[trade.status] = counts.get(trade.status, 0) + 1
    counts["refused"] += sum(view.utc_us - r.utc_us < DAY_US for r in view.refused)
    # A counter that first appears with its first value hides that value from `increase`.
    sums = {
        k: SettledView(outcome=k, count=0, contracted_wh=0, delivered_wh=0) for k in OUTCOMES
    } | {s.outcome: s for s in view.settled}
    settled = [({**where, "outcome": k}, sums[k]) for k in sorted(sums)]
    return [
        _family(
            "sopgw_trade_energy_contracted_joules_total",
            "counter",
            "Contracted energy of all reported intervals by their outcome.",
            ((labels, s.contracted_wh * JOULES_PER_WH) for labels, s in settled),
        ),
        _family(
            "sopgw_trade_energy_delivered_joules_total",
            "counter",
            "Delivered energy of all reported intervals by their outcome, as metered.",
            ((labels, s.delivered_wh * JOULES_PER_WH) for labels, s in settled),
        ),
        _family(
            "sopgw_trade_intervals_total",
            "counter",
            "Reported intervals by their outcome.",
            ((labels, s.count) for labels, s in settled),
        ),
        _family(
            "sopgw_trades",
            "gauge",
            "The day's trades by their status.",
            (({**where, "outcome": k}, v) for k, v in sorted(counts.items())),
        ),
    ]


def _ledger(view: SiteView, where: Mapping[str, str]) -> list[Family]:
    return [
        _family(
            "sopgw_ledger_entries_total",
            "counter",
            "Entries in the ledger.",
            [(where, view.ledger.size)],
        ),
        _family(
            "sopgw_ledger_checkpoint_entries",
            "gauge",
            "Entries under the last signed checkpoint.",
            [(where, view.ledger.checkpoint_size)],
        ),
        _family(
            "sopgw_ledger_checkpoint_timestamp_seconds",
            "gauge",
            "When the last checkpoint was signed.",
            [(where, _seconds(view.ledger.checkpoint_us))],
        ),
        _family(
            "sopgw_ledger_check_ok",
            "gauge",
            "Whether the last full check found no errors.",
            [(where, None if view.ledger.checked_ok is None else int(view.ledger.checked_ok))],
        ),
        _family(
            "sopgw_alarm_active",
            "gauge",
            "Active alarms by code, but for shelved ones.",
            (
                ({**where, "code": code, "priority": str(priority)}, 1)
                for code, priority in sorted(
                    {(a.code, a.priority_level) for a in view.alarms if a.stands}
                )
            ),
        ),
        _family(
            "sopgw_alarms",
            "gauge",
            "Number of active alarms by priority, but for shelved ones.",
            (
                (
                    {**where, "priority": str(n)},
                    sum(a.stands and a.priority_level == n for a in view.alarms),
                )
                for n in (1, 2, 3, 4)
            ),
        ),
    ]


def _host(view: SiteView) -> list[Family]:
    where = {"sop": view.sop}
    return [
        _family(
            "sopgw_scan_timestamp_seconds",
            "gauge",
            "UTC of the last scan.",
            [(where, _seconds(view.scanned_us))],
        ),
        _family(
            "sopgw_start_timestamp_seconds",
            "gauge",
            "UTC of the gateway's start.",
            [(where, _seconds(view.started_us))],
        ),
        _family(
            "sopgw_state",
            "gauge",
            "One for the mode and state the gateway is in.",
            [({**where, "mode": view.mode, "state": view.state}, 1)],
        ),
        _family(
            "sopgw_clock_error_seconds",
            "gauge",
            "Largest error of the clock by its own account.",
            [(where, None if view.clock_error_ms is None else view.clock_error_ms / 1000)],
        ),
    ]


def _devices(view: SiteView) -> list[Family]:
    where = {"sop": view.sop}
    devices = [({"device": d.name}, d) for d in view.devices]
    return [
        _family(
            "sopgw_devices_stale",
            "gauge",
            "Devices that do not answer, or whose values are too old, stand still or are not sure.",
            [(where, len(view.stale))],
        ),
        _family(
            "sopgw_points_stale",
            "gauge",
            "Values whose quality is not good, or whose device is silent.",
            [(where, sum(p.quality != "good" or view.old(p) for p in view.points))],
        ),
        _family(
            "sopgw_device_up",
            "gauge",
            "Whether a device answers.",
            ((labels, int(d.connected)) for labels, d in devices),
        ),
        _family(
            "sopgw_device_age_seconds",
            "gauge",
            "Age of a device's newest values.",
            ((labels, None if d.age_ms is None else d.age_ms / 1000) for labels, d in devices),
        ),
        _family(
            "sopgw_device_requests_total",
            "counter",
            "Requests sent to a device.",
            ((labels, d.request_count) for labels, d in devices),
        ),
        _family(
            "sopgw_device_errors_total",
            "counter",
            "Requests without a good answer.",
            ((labels, d.error_count) for labels, d in devices),
        ),
        _polls(view),
        _family(
            "sopgw_build_info",
            "gauge",
            "Version of the program and hash of its configuration.",
            [({"version": view.version, "config_sha256": view.config_sha256}, 1)],
        ),
    ]


def _polls(view: SiteView) -> Family:
    """Return the histogram of poll durations, by device."""
    name = "sopgw_poll_duration_seconds"
    samples: list[Sample] = []
    for device in (d for d in view.devices if any(d.poll_counts)):
        labels = {"device": device.name}
        total = list(accumulate(device.poll_counts))
        bounds = [*(_number(b / 1000) for b in POLL_BOUNDS_MS), "+Inf"]
        samples += [
            (f"{name}_bucket", {**labels, "le": bound}, count)
            for bound, count in zip(bounds, total, strict=True)
        ]
        samples.append((f"{name}_sum", labels, device.poll_sum_ms / 1000))
        samples.append((f"{name}_count", labels, total[-1]))
    return name, "histogram", "Duration of one poll of a device.", samples


def _seconds(utc_us: int | None) -> float | None:
    return None if utc_us is None else utc_us / 1_000_000


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{key}="{_quoted(value)}"' for key, value in labels.items())
    return f"{{{told}}}" if told else ""


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
