"""From the points of one poll to the telemetry of a station, whatever protocol brought them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.model.errors import BadAnswer
from gateway.model.telemetry import Quality, State, StationTelemetry, TerminalTelemetry
from gateway.model.terminal import Terminal

# What a station's driver reads by name.
STATION_POINTS = (
    "state.code", "state.bits", "fault.bits", "alarm.bits", "ack.seq", "ack.code", "hb.device",
    "wdg.remain", "instr.echo", "master.number", "dc.v", "loss", "uptime",
)  # fmt: skip
TERMINAL_POINTS = (
    "state", "p", "q", "v", "s_available", "p_active", "p_received", "fault", "limit",
    "e.inject", "e.absorb",
)  # fmt: skip
ABSURD_RATIO = 1.2  # |P| beyond that much of the rating is a wrong reading


class Values(Protocol):
    """The points of one poll; ``registers`` are those they came from, if any."""

    @property
    def registers(self) -> tuple[int, ...]:
        """Registers of the poll in the order read."""
        ...

    def integer(self, name: str, *, per_unit: int = 1) -> int:
        """A point as a whole count of 1/``per_unit`` base units; BadAnswer without a number."""
        ...


def telemetry_of(
    device: str,
    got: Values,
    terminals: Sequence[Terminal],
    *,
    utc_us: int,
    mono_us: int,
    lease_owner: int,
    echo: tuple[str, str, str] = ("ack.seq", "ack.code", "instr.echo"),
    sure: bool = True,
) -> StationTelemetry:
    """Build the telemetry; UNCERTAIN unless the values are ``sure`` and possible.

    ``echo`` names the points of sequence number, answer and instruction id.
    """
    seen = tuple(_terminal(device, got, t) for t in terminals)
    absurd = any(
        abs(one.p_w) > ABSURD_RATIO * t.s_va for one, t in zip(seen, terminals, strict=True)
    )
    number = got.integer("master.number")
    return StationTelemetry(
        utc_us=utc_us,
        mono_us=mono_us,
        state=_state(device, got.integer("state.code")),
        status_bits=got.integer("state.bits"),
        fault_bits=got.integer("fault.bits"),
        alarm_bits=got.integer("alarm.bits"),
        ack_seq=got.integer(echo[0]),
        ack_code=got.integer(echo[1]),
        heartbeat_count=got.integer("hb.device"),
        watchdog_remaining_ds=got.integer("wdg.remain", per_unit=10),
        instruction_id=got.integer(echo[2]),
        master=next((t.id for t in terminals if t.index == number - 1), ""),
        v_dc_dv=got.integer("dc.v", per_unit=10),
        loss_w=got.integer("loss"),
        uptime_s=got.integer("uptime"),
        lease_owner=lease_owner,
        terminals=seen,
        quality=Quality.GOOD if sure and not absurd else Quality.UNCERTAIN,
        registers=got.registers,
    )


def _terminal(device: str, got: Values, terminal: Terminal) -> TerminalTelemetry:
    at = f"t{terminal.index + 1}."
    return TerminalTelemetry(
        id=terminal.id,
        state=_state(device, got.integer(at + "state")),
        p_w=got.integer(at + "p"),
        q_var=got.integer(at + "q"),
        v_dv=got.integer(at + "v", per_unit=10),
        s_va_available=got.integer(at + "s_available"),
        p_w_set_active=got.integer(at + "p_active"),
        p_w_set_received=got.integer(at + "p_received"),
        fault_bits=got.integer(at + "fault"),
        limit_bits=got.integer(at + "limit"),
        export_wh=got.integer(at + "e.inject"),
        import_wh=got.integer(at + "e.absorb"),
    )


def _state(device: str, code: int) -> State:
    try:
        return State(code)
    except ValueError:
        raise BadAnswer(device, f"unknown operating state {code}") from None
