"""Which alarm is how urgent. Its words and what to do stand in the catalogues under its code.

Codes are the gateway's own reason words, or the numbers of the alarm list for what has no reason.
Priorities after IEC 62682: 1 act at once, 2 act soon, 3 act in time, 4 for the diagnostician.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.hmi.state import AlarmView

PRIORITY_DEFAULT = 3
PRIORITIES = {
    "estop": 1,
    "device_unknown": 1,
    "readback_differs": 1,
    "fault": 2,
    "lockout": 2,
    "link_lost": 2,
    "foreign_write": 2,
    "lease": 2,
    "time_quality": 2,
    "ledger": 2,
    "not_armed": 3,
    "meter_lost": 3,
    "broker_lost": 3,
    "A-101": 1,
    "A-102": 1,
    "A-103": 1,
    "A-104": 2,
    "A-105": 2,
    "A-106": 2,
    "A-110": 2,
    "A-120": 2,
    "A-130": 2,
    "A-140": 2,
    "A-150": 2,
    "A-151": 2,
    "A-161": 2,
    "A-162": 2,
    "A-200": 4,
}


def priority(code: str) -> int:
    """Return an alarm's priority; one nobody rated is low, never none."""
    return PRIORITIES.get(code, PRIORITY_DEFAULT)


def as_listed(
    told: Iterable[AlarmView], rows: Sequence[Mapping[str, Any]]
) -> tuple[AlarmView, ...]:
    """Return the alarms as the site's own list rates them, with what people said of them.

    Args:
        told: alarms as the ledger's recent past tells them, those that are over included.
        rows: those that stand or wait to be acknowledged, as ``sopgw alarm ls`` shows them.
    """
    found = {a.code: a for a in told}
    for row in rows:
        code = row["code"]
        plain = AlarmView(code=code, priority_level=PRIORITY_DEFAULT, since_us=row["since_us"])
        found[code] = replace(
            found.get(code, plain),
            priority_level=row["priority_level"],
            since_us=row["since_us"],
            detail=row["detail"],
            active=row["active"],
            acknowledged=row["acknowledged"],
            shelved_until_us=row["shelved_until_us"],
            what=row["what"],
            response=row["response"],
        )
    return tuple(found.values())
