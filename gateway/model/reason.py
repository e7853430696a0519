"""Reasons: the one list of words for why something was refused, curtailed, held or not delivered.

A reason is a value, never text to be parsed: ``code`` is the word that programs compare,
``detail`` is for people. ``docs/reasons.md`` explains every word; a test keeps the two equal.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class ReasonCode(enum.StrEnum):
    """Why, in one word. New words go to the right group here and into ``docs/reasons.md``."""

    # The message as it travelled.
    OVERSIZED = "oversized"
    RETAINED = "retained"
    EMPTY = "empty"
    TOPIC = "topic"
    RATE = "rate"
    # Signatures.
    SIGNATURE = "signature"
    UNSIGNED = "unsigned"
    SIGNER_UNKNOWN = "signer_unknown"
    SIGNERS_TOO_FEW = "signers_too_few"
    PAYLOAD_TYPE = "payload_type"
    # Form: what stands in the document.
    FORM = "form"
    DEPTH = "depth"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_FIELD = "unknown_field"
    MISSING_FIELD = "missing_field"
    NOT_INTEGER = "not_integer"
    NEGATIVE = "negative"
    OUT_OF_RANGE = "out_of_range"
    IDENTIFIER = "identifier"
    CODE = "code"
    UNIT = "unit"
    CURRENCY = "currency"
    TIME = "time"
    RESOLUTION = "resolution"
    POSITIONS = "positions"
    ENERGY_NOT_WHOLE = "energy_not_whole"
    # What the document means here and now.
    UNKNOWN_SITE = "unknown_site"
    UNKNOWN_SOP = "unknown_sop"
    UNKNOWN_DOMAIN = "unknown_domain"
    SAME_DOMAIN = "same_domain"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    ORPHAN = "orphan"
    LATE = "late"
    GATE_CLOSED = "gate_closed"
    HORIZON = "horizon"
    CANCELLED = "cancelled"
    INFEASIBLE = "infeasible"
    REFUSED_BY_POLICY = "refused_by_policy"
    # Limits that curtail.
    RATING = "rating"
    CAPABILITY = "capability"
    GUARD_P = "guard_p"
    BELOW_BAND = "below_band"
    THROUGHPUT = "throughput"
    RAMP = "ramp"
    FEEDER_VOLTAGE = "feeder_voltage"
    FEEDER_LIMIT = "feeder_limit"
    FEEDER_MASK = "feeder_mask"
    MASTER_HEADROOM = "master_headroom"
    DERATED = "derated"
    LIMITS_EXPIRED = "limits_expired"
    # Conditions that block or hold.
    MODE_BLOCKED = "mode_blocked"
    TEST_MODE = "test_mode"
    NOT_ARMED = "not_armed"
    LOCAL = "local"
    ESTOP = "estop"
    FAULT = "fault"
    LOCKOUT = "lockout"
    MAINTENANCE = "maintenance"
    BREAKER_OPEN = "breaker_open"
    STATE = "state"
    LEASE = "lease"
    FOREIGN_WRITE = "foreign_write"
    TIME_QUALITY = "time_quality"
    STALE = "stale"
    LEDGER = "ledger"
    DISK = "disk"
    CRASH_LOOP = "crash_loop"
    OPERATOR = "operator"
    # Links and devices.
    LINK_LOST = "link_lost"
    METER_LOST = "meter_lost"
    BROKER_LOST = "broker_lost"
    WATCHDOG = "watchdog"
    DEVICE_REJECTED = "device_rejected"
    DEVICE_UNKNOWN = "device_unknown"
    READBACK_DIFFERS = "readback_differs"
    EFFECT_MISSING = "effect_missing"
    SELECT_FAILED = "select_failed"
    EXPIRED = "expired"
    TERMINAL_LOST = "terminal_lost"
    # Energy and its account.
    UNMETERED = "unmetered"
    ESTIMATED = "estimated"
    SHORTFALL = "shortfall"
    GATEWAY_RESTART = "gateway_restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason with what people want to know beside it (limits, values, places)."""

    code: ReasonCode
    detail: str = ""

    def text(self) -> str:
        """Write it for people: ``guard_p: 230.0 kW at T2``."""
        return f"{self.code.value}: {self.detail}" if self.detail else self.code.value

    def fields(self) -> dict[str, str]:
        """Give it as the ledger and the messages carry it."""
        return {"code": self.code.value, "detail": self.detail}
