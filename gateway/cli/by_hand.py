"""A terminal's power by hand: asked of the running service, which holds it and lets it go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.consent import consented
from gateway.cli.door import door_of
from gateway.cli.output import ExitCode, emit, fail
from gateway.cli.running import ask_gateway, refuse_when_read_only
from gateway.model.units import UnitError, parse_int, signed_kw_text

if TYPE_CHECKING:
    from gateway.cli.field import Field
    from gateway.commissioning.plan import Level
    from gateway.model.terminal import Terminal

EFFECT_S = 20.0  # a decision, a dispatch and its read-back, on a busy host too


def is_terminal(device: str, assignment: str, config_path: Path) -> bool:
    """Tell whether a terminal's power is meant: its name, and ``p=``."""
    if not assignment.startswith("p=") or "/" in device or not config_path.exists():
        return False
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    return any(t.id == device for s in site.sops for t in s.sop.terminals)


def refuse_while_served(device: str, config_path: Path) -> None:
    """End with exit 10 when the running service controls the device: one holder of control."""
    refuse_when_read_only()
    if not config_path.exists():
        return
    from gateway.config.site_file import load_site

    site = load_site(config_path)
    known = {d.name for d in site.devices.values()} | {d.url for d in site.devices.values()}
    if device not in known and not any(device in url for url in known):
        return
    path = door_of(config_path, site)
    if not path.exists() or not _answers(path):
        return
    fail(
        ExitCode.LOCKED,
        "locked-by-other-client: the running service controls this site's devices",
        code="H010",
        where=str(path),
        help="a terminal by hand: sopgw point set T2 p=10kW --for 30s; else stop the service",
    )


def _answers(path: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def hold(
    terminal: str,
    assignment: str,
    for_text: str,
    *,
    config_path: Path,
    yes: bool,
    confirm: str,
    applied: str,
) -> None:
    """Show the plan, or have the service hold the power and see that it does."""
    import click

    try:
        p_w = parse_int(assignment.partition("=")[2], "power")
        for_ms = parse_int(for_text, "time", per_unit=1000)
    except UnitError as error:
        raise click.UsageError(f"{error}; {error.help}") from None
    plan = consented(
        ("point", "set", terminal, f"p={p_w}W", "--for", f"{for_ms}ms"),
        config_path=config_path,
        level=lambda field: _level(field, terminal, p_w),
        lines=lambda field: _plan_lines(field, terminal, p_w, for_ms),
        yes=yes,
        confirm=confirm,
        applied=applied,
    )
    request = {"verb": "setpoint", "setpoints": {terminal: p_w}, "for_ms": for_ms, **plan}
    answer = ask_gateway(config_path, request)
    seen = _seen(terminal, p_w, config_path)
    data = {
        "device": terminal,
        "point": "p",
        "value": str(p_w),
        "registers": [],
        "for_ms": for_ms,
        "until_ms": answer["until_ms"],
    }
    if seen is None:
        fail(
            ExitCode.UNVERIFIED,
            f"{terminal} {p_w / 1000:+.1f} kW was ordered and is not confirmed",
            code="H009",
            where=terminal,
            help="sopgw status; sopgw stop brings everything to zero",
            data={**data, "written": True},
        )
    read_back = {
        "point": "p",
        "value": seen["p_w_set"],
        "text": signed_kw_text(p_w),
        "quality": "good",
        "unit": "W",
        "registers": [],
        "utc_us": seen["utc_us"],
    }
    emit(
        data | {"written": True, "read_back": read_back},
        text=f"{terminal} holds {p_w / 1000:+.1f} kW for {for_ms / 1000:g} s, then zero by itself",
    )


def _plan_lines(field: Field, terminal: str, p_w: int, for_ms: int) -> tuple[str, ...]:
    known = _known(field, terminal)
    return (
        f"{terminal} to {p_w / 1000:+.1f} kW for {for_ms / 1000:g} s, then zero",
        f"guard {known.p_w_min / 1000:.0f} … {known.p_w_max / 1000:.0f} kW, ramp "
        f"{known.ramp_w_per_s / 1000:.0f} kW/s; a trade's interval ends it at once",
        "written by the service: SELECT, read back, OPERATE, read back",
    )


def _known(field: Field, terminal: str) -> Terminal:
    from gateway.cli.field import known_terminal

    return field.equipment.sop.terminal(known_terminal(field, terminal))


def _level(field: Field, terminal: str, p_w: int) -> Level:
    from gateway.cli.preview import level_of_targets
    from gateway.commissioning.session import Power

    targets = {_known(field, terminal).id: (Power(p_w=p_w),)}
    return level_of_targets(field.equipment.sop, targets)


def _seen(terminal: str, p_w: int, config_path: Path) -> Mapping[str, object] | None:
    """Ask until the read-back has confirmed the setpoint."""
    until_s = time.monotonic() + EFFECT_S
    while time.monotonic() < until_s:
        status = ask_gateway(config_path, {"verb": "status"})["status"]
        row = next((t for t in status["terminals"] if t["id"] == terminal), None)
        if row is not None and row["p_w_set"] == p_w:
            return {**row, "utc_us": status["utc_ms"] * 1000}
        time.sleep(0.2)
    return None
