"""Plan, then apply: what a command would write, kept for two minutes, checked again on apply.

The shape of IEC 61850's select-before-operate for people: nothing is written when a plan is made;
applying it needs the same site file and the same state of the station; it can be applied once.
"""

from __future__ import annotations

import base64
import enum
import json
import math
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.commissioning.sat.canonical import canonical, sha256
from gateway.journal.owner import as_owner
from gateway.model.errors import GatewayError
from gateway.model.telemetry import StationTelemetry

LIFE_S = 120  # a person reads a plan in less; a plant changes in more
MODERATE_RATIO_MAX = 0.2  # of the rating: more is severe
PLANS_MAX = 50  # older ones are swept away: a plan lives two minutes
LOCAL_BIT = 1 << 12
UNPRINTED = ("Cc", "Cs")  # control characters could hide on a terminal what a plan does


class Level(enum.StrEnum):
    """How much an operation can move, and so what it takes to carry it out."""

    MODERATE = "moderate"  # apply or --yes
    SEVERE = "severe"  # the SOP's name, typed or by --confirm


class PlanGone(GatewayError):  # noqa: N818 - an outcome
    """There is no such plan, or it was applied or cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwarePlan:
    """One operation that waits for its application."""

    id: str
    command: tuple[str, ...]  # as it would be typed, without --yes and --confirm
    sop: str
    level: Level
    lines: tuple[str, ...]  # what moves, between which limits, what happens on failure
    frames: tuple[str, ...]  # the first bytes that would be written
    site_sha256: str
    state: Mapping[str, Any]  # of the station, as ``fingerprint`` gives it
    boot_id: str
    expires_mono_us: int
    created_utc_us: int

    def data(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "id": self.id, "command": list(self.command), "sop": self.sop,
            "level": self.level.value, "lines": list(self.lines), "frames": list(self.frames),
            "site_sha256": self.site_sha256, "state": dict(self.state), "boot_id": self.boot_id,
            "expires_mono_us": self.expires_mono_us, "created_utc_us": self.created_utc_us,
        }  # fmt: skip


def level_of(*, p_w: int, s_va: int, q_var: int = 0) -> Level:
    """Return the level of an operation by its largest power, reactive power counted in."""
    largest_va = math.hypot(p_w, q_var)
    return Level.MODERATE if largest_va <= MODERATE_RATIO_MAX * s_va else Level.SEVERE


def fingerprint(seen: StationTelemetry) -> dict[str, Any]:
    """Return what must be the same when a plan is applied."""
    return {
        "state": seen.state.name,
        "local": bool(seen.status_bits & LOCAL_BIT),
        "lease_owner": seen.lease_owner if seen.watchdog_remaining_ds > 0 else 0,
        "master": seen.master,
        **{f"{t.id}.p_set": t.p_w_set_active for t in seen.terminals},
    }


def stale(
    plan: HardwarePlan,
    *,
    site_sha256: str,
    state: Mapping[str, Any],
    mono_us: int,
    boot_id: str,
) -> list[str]:
    """Return why a plan may not be applied any more; empty when it may."""
    reasons = []
    if plan.boot_id != boot_id or mono_us > plan.expires_mono_us:
        reasons.append(f"it is older than {LIFE_S} s")
    if plan.site_sha256 != site_sha256:
        reasons.append("the site file was changed")
    return reasons + stale_state(plan.state, state)


def stale_state(planned: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """Return what differs between the state a plan was made in and the present one."""
    return [
        f"{name} changed {planned.get(name)} → {state.get(name)}"
        for name in sorted(planned.keys() | state.keys())
        if planned.get(name) != state.get(name)
    ]


def boot_id() -> str:
    """Return this start of the machine; plans do not outlive it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _from_bytes(raw: bytes) -> HardwarePlan:
    """Read a plan back; ValueError or TypeError when it is not what ``data`` writes.

    The file lies where others than its writer may reach it, and what it says is shown to whoever
    confirms: it must be what it was, kind for kind.
    """
    fields = json.loads(raw)
    if not isinstance(fields, dict):
        raise TypeError("a plan is an object")
    plan = HardwarePlan(
        **{
            **fields,
            "command": tuple(_texts(fields.get("command"))),
            "lines": tuple(_texts(fields.get("lines"))),
            "frames": tuple(_texts(fields.get("frames"))),
            "level": Level(str(fields.get("level"))),
        }
    )
    _texts([plan.id, plan.sop, plan.site_sha256, plan.boot_id])
    whole = (plan.expires_mono_us, plan.created_utc_us)
    if not isinstance(plan.state, dict) or any(type(n) is not int for n in whole):
        raise TypeError("a state is an object, an instant a whole number")
    return plan


def _texts(value: object) -> list[str]:
    texts: list[str] = []
    for text in value if isinstance(value, list) else [None]:
        if not isinstance(text, str) or any(unicodedata.category(c) in UNPRINTED for c in text):
            raise TypeError("not a list of plain texts")
        texts.append(text)
    return texts


class PlanStore:
    """Plans as files: ``<id>.json`` waiting, ``<id>.applied`` and ``<id>.cancelled`` done."""

    def __init__(
        self, folder: Path, *, mono_us: Callable[[], int], utc_us: Callable[[], int]
    ) -> None:
        self.folder = folder
        self._mono_us = mono_us
        self._utc_us = utc_us

    def make(
        self,
        *,
        command: Sequence[str],
        sop: str,
        level: Level,
        lines: Sequence[str],
        frames: Sequence[str],
        site_sha256: str,
        state: Mapping[str, Any],
    ) -> HardwarePlan:
        """Keep a new plan."""
        now_us = self._utc_us()
        seed = canonical([now_us, os.getpid(), list(command)])
        name = base64.b32encode(bytes.fromhex(sha256(seed)))[:4].decode()
        plan = HardwarePlan(
            id=f"p-{name}",
            command=tuple(command),
            sop=sop,
            level=level,
            lines=tuple(lines),
            frames=tuple(frames),
            site_sha256=site_sha256,
            state=dict(state),
            boot_id=boot_id(),
            expires_mono_us=self._mono_us() + LIFE_S * 1_000_000,
            created_utc_us=now_us,
        )
        with as_owner(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
            path = self.folder / f"{plan.id}.json"
            path.write_bytes(canonical(plan.data()) + b"\n")
            path.chmod(0o600)
        return plan

    def load(self, plan_id: str, *, suffix: str = ".json") -> HardwarePlan:
        """Read a waiting plan; PlanGone when there is none."""
        if not plan_id.replace("-", "").isalnum():
            raise PlanGone(f"“{plan_id}” is not a plan")
        try:
            raw = (self.folder / f"{plan_id}{suffix}").read_bytes()
        except FileNotFoundError:
            for done in ("applied", "cancelled"):
                if (self.folder / f"{plan_id}.{done}").exists():
                    raise PlanGone(f"{plan_id} was {done} already") from None
            raise PlanGone(f"there is no plan {plan_id}") from None
        try:
            found = _from_bytes(raw)
        except (ValueError, TypeError, RecursionError):
            raise PlanGone(f"the file of {plan_id} is damaged: make the plan again") from None
        if found.id != plan_id:
            raise PlanGone(f"the file of {plan_id} holds another plan")
        return found

    def take(self, plan_id: str) -> HardwarePlan:
        """Take a plan for good: of two who try, one gets PlanGone."""
        plan = self.load(plan_id)
        self._end(plan_id, "applied")
        return plan

    def cancel(self, plan_id: str) -> HardwarePlan:
        """Take a plan away without applying it."""
        plan = self.load(plan_id)
        self._end(plan_id, "cancelled")
        return plan

    def _end(self, plan_id: str, how: str) -> None:
        try:
            (self.folder / f"{plan_id}.json").rename(self.folder / f"{plan_id}.{how}")
        except FileNotFoundError:
            raise PlanGone(f"{plan_id} was taken by somebody else") from None

    def left_s(self, plan: HardwarePlan) -> int:
        """Return how many seconds a plan has left; 0 when it is over."""
        if plan.boot_id != boot_id():
            return 0
        return max(0, (plan.expires_mono_us - self._mono_us()) // 1_000_000)

    def waiting(self) -> Iterator[HardwarePlan]:
        """Yield the plans that wait, oldest first, expired ones included; not the damaged."""
        if self.folder.is_dir():
            paths = sorted(self.folder.glob("p-*.json"), key=lambda p: p.stat().st_mtime_ns)
            for path in paths:
                with suppress(PlanGone):
                    yield self.load(path.stem)

    def damaged(self) -> list[str]:
        """Say of each waiting plan that cannot be read why not."""
        found = []
        for path in sorted(self.folder.glob("p-*.json")):
            try:
                self.load(path.stem)
            except PlanGone as gone:
                found.append(str(gone))
        return found

    def _sweep(self) -> None:
        """Keep the folder small."""
        paths = sorted(self.folder.glob("p-*.*"), key=lambda p: p.stat().st_mtime_ns)
        for path in paths[: max(0, len(paths) - PLANS_MAX + 1)]:
            path.unlink(missing_ok=True)
