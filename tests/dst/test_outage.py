"""Half a minute without the setpoint path: the device goes to zero, the rest catches it up."""

import logging

import pytest
from dst.faults import Fault
from dst.world import Setting, run

S_VA = 250_000


@pytest.fixture(autouse=True)
def quiet_log():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def outage(*, seed, minutes, size):
    """A run with a cut of 30 s, one minute into every quarter of an hour."""
    faults = tuple(Fault(at_s, "cut", 30.0, size) for at_s in range(960, minutes * 60 - 840, 900))
    return run(
        Setting(
            seed=seed, minutes=minutes, length_s=900, faults=faults, mischief=False, rearm="auto"
        )
    )


def errors_percent(outcome):
    """Deviation of every slave within the range that the promise is for (D16)."""
    for entry in outcome.deliveries:
        for t in entry["terminals"]:
            power_w = abs(t["planned_wh"]) * 4
            if t["terminal"] != "T1" and 0.04 * S_VA <= power_w <= 0.88 * S_VA:
                yield 100 * abs(t["judged_wh"] - t["planned_wh"]) / abs(t["planned_wh"])


def test_an_early_outage_of_the_setpoint_path_is_caught_up():
    outcome = outage(seed=7, minutes=47, size=3)  # requests are lost in silence
    assert outcome.broken == []
    assert [t for t in outcome.trace if t.endswith("drop watchdog")]  # it did go to zero
    found = list(errors_percent(outcome))
    assert len(found) >= 4
    assert max(found) <= 0.1
