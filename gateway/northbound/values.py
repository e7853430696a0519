"""One list of named values out of the view of a site, for every northbound door alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gateway.hmi.state import DeviceView, SiteView, TerminalView

Content = bool | int | float | str | None


class Sureness(StrEnum):
    """How far a value may be believed."""

    GOOD = "good"
    STALE = "stale"  # the last one known: its device is silent, late, frozen or unsure of it
    NONE = "none"  # nothing is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value: ``path`` below the SOP, such as ``("Terminals", "T1", "ActivePower")``."""

    path: tuple[str, ...]
    content: Content
    kind: type[bool | int | float | str]
    unit: str = ""
    span: tuple[float, float] | None = None  # lowest and highest, in ``unit``
    sureness: Sureness = Sureness.GOOD
    counter: bool = False  # only ever grows

    @property
    def name(self) -> str:
        """The path as one word."""
        return "/".join(self.path)


def values_of(view: SiteView) -> tuple[Value, ...]:
    """Return every value of a SOP; the same names in the same order for the same terminals."""
    meters = {t.meter for t in view.terminals}
    devices = {d.name: d for d in view.devices}
    telling = [d for d in view.devices if d.name not in meters]
    # Converters are read all or none: one of them that is silent makes what all said old.
    station = next((d for d in telling if d.stale), telling[0] if telling else None)
    told = [*_whole(view, station)]
    for terminal in view.terminals:
        told += _terminal(terminal, station, devices.get(terminal.meter))
    return tuple(told)


def _whole(view: SiteView, station: DeviceView | None) -> Iterator[Value]:
    yield _text(("Mode",), view.mode)
    yield _text(("State",), view.state)
    yield _text(("Reasons",), "; ".join(view.reasons))
    yield _text(("TimeQuality",), view.time_quality)
    yield Value(
        path=("DcVoltage",),
        content=None if view.v_dc_dv is None else view.v_dc_dv / 10,
        kind=float,
        unit="V",
        span=None if view.v_dc_dv_max is None else (0.0, view.v_dc_dv_max / 10),
        sureness=_sureness(view.v_dc_dv, station),
    )
    yield _count(("Losses",), view.loss_w, "W", sureness=_sureness(view.loss_w, station))
    yield _count(("OpenTrades",), sum(t.status == "running" for t in view.trades))
    yield _count(("ActiveAlarms",), sum(a.stands for a in view.alarms))
    for outcome in ("delivered", "partial", "failed"):
        settled = next((s for s in view.settled if s.outcome == outcome), None)
        path = ("Settled", outcome.capitalize())
        yield _count(
            (*path, "Contracted"), settled.contracted_wh if settled else 0, "Wh", counter=True
        )
        yield _count((*path, "Energy"), settled.delivered_wh if settled else 0, "Wh", counter=True)
    yield _count(("Ledger", "Entries"), view.ledger.size, counter=True)
    yield _count(("Ledger", "CheckpointSize"), view.ledger.checkpoint_size, counter=True)
    yield Value(path=("Ledger", "Anchored"), content=view.ledger.anchored, kind=bool)


def _terminal(
    t: TerminalView, station: DeviceView | None, meter: DeviceView | None
) -> Iterator[Value]:
    def at(*names: str) -> tuple[str, ...]:
        return ("Terminals", t.id, *names)

    yield Value(
        path=at("State"),
        content=t.state,
        kind=str,
        sureness=_sureness(t.p_w, station),
    )
    yield Value(path=at("Master"), content=t.master, kind=bool)
    powers = (
        ("ActivePower", t.p_w, "W", (float(t.p_w_min), float(t.p_w_max))),
        ("SetActivePower", t.set_p_w, "W", (float(t.p_w_min), float(t.p_w_max))),
        ("ReactivePower", t.q_var, "var", (float(-t.s_va), float(t.s_va))),
        ("ApparentPowerAvailable", t.s_va_available, "VA", (0.0, float(t.s_va))),
    )
    for name, content, unit, span in powers:
        sureness = _sureness(content, station)
        yield _count(at(name), content, unit, span=span, sureness=sureness)
    yield Value(
        path=at("Voltage"),
        content=None if t.v_dv is None else t.v_dv / 10,
        kind=float,
        unit="V",
        sureness=_sureness(t.v_dv, station),
    )
    yield _count(
        at("Meter", "ActivePower"),
        t.meter_p_w,
        "W",
        span=(float(-t.s_va), float(t.s_va)),
        sureness=_sureness(t.meter_p_w, meter),
    )
    for name, counted in (("ImportEnergy", t.meter_import_wh), ("ExportEnergy", t.meter_export_wh)):
        sureness = _sureness(counted, meter)
        yield _count(at("Meter", name), counted, "Wh", sureness=sureness, counter=True)


def _text(path: tuple[str, ...], content: str) -> Value:
    return Value(path=path, content=content, kind=str)


def _count(
    path: tuple[str, ...],
    content: int | None,
    unit: str = "",
    *,
    span: tuple[float, float] | None = None,
    sureness: Sureness = Sureness.GOOD,
    counter: bool = False,
) -> Value:
    return Value(
        path=path,
        content=content,
        kind=int,
        unit=unit,
        span=span,
        sureness=sureness,
        counter=counter,
    )


def _sureness(content: object, device: DeviceView | None) -> Sureness:
    """Judge what a device said by its link, its sign of life and the age of its answer."""
    if content is None or device is None or device.age_ms is None:
        return Sureness.NONE
    return Sureness.STALE if device.stale else Sureness.GOOD
