"""Did the device go to zero by itself when its master fell silent, and stay there?

Four ways to fall silent, because they fail differently. The setting is read first: a device whose
watchdog is disabled does not pass, whatever it did this time.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.commissioning.finding import Finding, Punch, Verdict
from gateway.commissioning.step import Timed


class How(enum.StrEnum):
    """How the master falls silent."""

    STOP_HEARTBEAT = "stop-heartbeat"  # no sign of life, the connection stays
    DROP_LINK = "drop-link"  # the connection is closed
    KILL_SERVICE = "kill-service"  # the process dies; a second, reading connection measures
    UNPLUG = "unplug"  # a person pulls the cable


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What the device must do: be at zero within this time, and stay there."""

    zero_within_s: float
    zero_band_w: float
    on_loss: str | None = None  # the reaction it is armed with; None: it has only one


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSample:
    """Power of the tested terminal as the measuring connection saw it."""

    t_s: float
    p_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogResult:
    """Verdict, time to zero with its resolution, and what is wrong."""

    how: How
    verdict: Verdict
    zero_after: Timed | None
    findings: tuple[Finding, ...]
    note: str = ""  # why it was not tried


def setting_finding(device: str, *, timeout_s: float, declared_s: float) -> Finding | None:
    """Judge the timeout read from the device before anything is stopped."""
    if timeout_s <= 0:
        return Finding(
            code="watchdog-disabled",
            where=device,
            what=f"the watchdog of {device} is disabled (timeout 0)",
            mend=f"set it to {declared_s:g} s on the device; many ship with it off",
            punch=Punch.A,
        )
    if timeout_s > declared_s:
        return Finding(
            code="watchdog-long",
            where=device,
            what=f"the watchdog of {device} waits {timeout_s:g} s, the site says {declared_s:g} s",
            mend=f"set the device to {declared_s:g} s or correct heartbeat.device_timeout",
            punch=Punch.B,
        )
    return None


def judge(
    device: str,
    how: How,
    samples: Sequence[WatchdogSample],
    *,
    t_silent_s: float,
    t_back_s: float | None,
    expectation: Expectation,
    setting: Finding | None,
) -> WatchdogResult:
    """Judge a silence from the samples around it.

    ``t_back_s`` is when the master was heard again; power must stay at zero after it, until
    somebody arms. None when the master did not return within the samples. A time that may lie
    beyond the limit is undecided: between two looks a setpoint may have ended by its own life.
    """
    if setting is not None and setting.code == "watchdog-disabled":
        return WatchdogResult(how=how, verdict=Verdict.FAULT, zero_after=None, findings=(setting,))
    findings = [setting] if setting else []
    band_w = expectation.zero_band_w
    before = [s for s in samples if s.t_s <= t_silent_s]
    if not before or abs(before[-1].p_w) <= band_w:
        return WatchdogResult(
            how=how, verdict=Verdict.UNDECIDED, zero_after=None, findings=tuple(findings)
        )
    zero = _zero(samples, t_silent_s=t_silent_s, t_end_s=t_back_s, band_w=band_w)
    if zero is None or zero.value_s - zero.resolution_s > expectation.zero_within_s:
        after = "did not go" if zero is None else f"went only after {zero}"
        findings.append(
            Finding(
                code="no-zero",
                where=device,
                what=f"{how}: the device {after} to zero, expected within "
                f"{expectation.zero_within_s:g} s",
                mend="do not operate; set watchdog timeout, reaction and ramp, then test again",
                punch=Punch.A,
            )
        )
    elif t_back_s is not None and any(abs(s.p_w) > band_w for s in samples if s.t_s > t_back_s):
        findings.append(
            Finding(
                code="returned-alone",
                where=device,
                what=f"{how}: power came back after the link without anybody arming",
                mend="set the device to wait for a new selection after a watchdog trip",
                punch=Punch.A,
            )
        )
    verdict = Verdict.OK
    if findings:
        verdict = Verdict.FAULT
    elif zero is not None and zero.value_s + zero.resolution_s > expectation.zero_within_s:
        verdict = Verdict.UNDECIDED
    return WatchdogResult(how=how, verdict=verdict, zero_after=zero, findings=tuple(findings))


def _zero(
    samples: Sequence[WatchdogSample], *, t_silent_s: float, t_end_s: float | None, band_w: float
) -> Timed | None:
    """First instant after which every sample of the silence lies in the zero band."""
    silence = [s for s in samples if s.t_s > t_silent_s and (t_end_s is None or s.t_s <= t_end_s)]
    last_s = t_silent_s
    entered: Timed | None = None
    for sample in silence:
        if abs(sample.p_w) > band_w:
            entered = None
        elif entered is None:
            entered = Timed(
                value_s=(last_s + sample.t_s) / 2 - t_silent_s,
                resolution_s=(sample.t_s - last_s) / 2,
            )
        last_s = sample.t_s
    return entered
