"""What a scenario says, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware_sim.plant.ratings import DeviceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPower:
    """A set value of a scenario: a fixed power, or one drawn from ± the power."""

    p_w: float
    drawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that happens at an instant, once or again and again."""

    at_s: float
    kind: str
    line_number: int
    every_s: float | None = None
    until_s: float | None = None
    power_by_index: dict[int, SetPower] = field(default_factory=dict)
    mode_by_index: dict[int, int] = field(default_factory=dict)
    reactive_var: dict[int, float] = field(default_factory=dict)
    ramp_permille_per_s: int = 200
    ttl_s: int = 900
    word: str = ""
    for_s: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must hold at an instant or all the time between two."""

    point: str
    from_s: float
    to_s: float
    line_number: int
    lowest_level: float | None = None
    highest_level: float | None = None
    word: str | None = None

    @property
    def title(self) -> str:
        """One line for reports."""
        when = (
            f"at {self.from_s:g} s"
            if self.from_s == self.to_s
            else (f"from {self.from_s:g} to {self.to_s:g} s")
        )
        if self.word is not None:
            return f"{self.point} is {self.word} {when}"
        low = "" if self.lowest_level is None else f"{self.lowest_level:g} <= "
        high = "" if self.highest_level is None else f" <= {self.highest_level:g}"
        return f"{low}{self.point}{high} {when}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario."""

    name: str
    path: Path
    spec: DeviceSpec
    duration_s: float
    actions: tuple[Action, ...]
    expectations: tuple[Expectation, ...]
    seed: int = 1
    step_us: int = 100_000
    dynamic: bool = False
    sample_s: float = 1.0
    state: str = "standby"
    master_index: int = 0
    bias_ratio: float = 0.01
    noise_ratio: float = 0.002
    heartbeat_s: float = 1.0
    failsafe_code: int = 1
    watchdog_ds: int = 50
    grid: str | None = None
    grid_step_s: float = 1.0
    profile: str = "built-in"
    day_start_s: float = 0.0
    station_address: tuple[str, int] | None = None
    station_unit_id: int = 100
    meter_address: dict[int, tuple[str, int]] = field(default_factory=dict)

    @property
    def real(self) -> bool:
        """Whether anything of it is a real device, so that time must be real too."""
        return self.station_address is not None or bool(self.meter_address)


@dataclass(slots=True, kw_only=True)
class Sample:
    """What was seen at one instant, by point name."""

    t_s: float
    point_level: dict[str, float]
    words: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happened, in seconds of scenario time."""

    t_s: float
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One expectation judged."""

    expectation: Expectation
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A scenario that was run."""

    scenario: Scenario
    samples: tuple[Sample, ...]
    checks: tuple[Check, ...]
    events: tuple[Happening, ...]

    @property
    def passed(self) -> bool:
        """Whether every expectation held."""
        return all(check.passed for check in self.checks)
