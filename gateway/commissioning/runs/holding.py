"""Holds a power at one terminal while somebody reads a meter or the process is killed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.commissioning.equipment import Rack, Say, silent
from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.runs.steps import watching
from gateway.commissioning.sat.record import CheckOutcome, Row
from gateway.commissioning.session import SETTLE_S, Power, hold, ramp_s
from gateway.ports import Journal

LIFE_S = 120  # of each setpoint beyond the device's timeout; what holds it renews it
RENEW_S = 60.0
BAND_RATIO = 0.02  # of the rating: a converter beyond that does not follow


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldOrder:
    """Which power, where, how long; without an end until the process ends."""

    terminal: str
    p_w: int
    span_s: float | None = None


async def run_hold(
    rack: Rack,
    order: HoldOrder,
    *,
    journal: Journal | None = None,
    say: Say = silent,
    holding: Callable[[], None] = lambda: None,
) -> CheckOutcome:
    """Bring the terminal there, keep it there, come back to zero; ``holding`` is called between."""
    terminal = rack.equipment.sop.terminal(order.terminal)
    powers = {order.terminal: Power(p_w=order.p_w)}
    # Where the process is killed, the watchdog and not the setpoint's end shall bring it to zero.
    life_s = LIFE_S + rack.equipment.device_timeout_ms // 1000
    async with hold(rack, journal=journal, say=say) as session:
        await session.set(powers, life_s=life_s)
        await rack.pause(ramp_s(rack.equipment.sop, terminal, order.p_w) + SETTLE_S)
        holding()
        began_s = rack.now_s()
        async with watching(rack, order.terminal, period_s=0.5) as watch:
            while order.span_s is None or rack.now_s() < began_s + order.span_s:
                left_s = RENEW_S if order.span_s is None else began_s + order.span_s - rack.now_s()
                say(f"{order.p_w / 1000:+.1f} kW at {order.terminal}")
                await rack.pause(min(left_s, RENEW_S))
                if left_s > RENEW_S:
                    await session.set(powers, life_s=life_s)
            seen_w = [
                next(t.p_w for t in telemetry.terminals if t.id == order.terminal)
                for _width_s, telemetry in watch.seen
            ]
    return outcome(order, seen_w, band_w=BAND_RATIO * terminal.s_va)


def outcome(order: HoldOrder, seen_w: list[int], *, band_w: float) -> CheckOutcome:
    """Say what was measured while it was held."""
    if not seen_w:
        return CheckOutcome(verdict=Verdict.UNDECIDED, note="the station was not read meanwhile")
    mean_w = sum(seen_w) / len(seen_w)
    followed = abs(mean_w - order.p_w) <= band_w
    verdict = Verdict.OK if followed else Verdict.FAULT
    row = Row(
        name=f"{order.terminal} measured",
        value_text=f"{mean_w / 1000:+.1f} kW, {min(seen_w) / 1000:+.1f} … "
        f"{max(seen_w) / 1000:+.1f} kW",
        limit=f"{order.p_w / 1000:+.1f} ± {band_w / 1000:.1f} kW",
        verdict=verdict,
    )
    astray = Finding(
        code="not-followed",
        where=order.terminal,
        what=f"set {order.p_w / 1000:+.1f} kW, measured {mean_w / 1000:+.1f} kW",
        mend="look at the converter's own display for a limit, then repeat",
        punch=Punch.B,
    )
    return CheckOutcome(
        verdict=verdict,
        rows=(row,),
        findings=() if followed else (astray,),
        note=f"{len(seen_w)} samples",
    )
