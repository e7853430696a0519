"""What is said of a power that was held; the holding itself is driven in tests/gateway/cli."""

import dataclasses

import pytest

from gateway.commissioning.finding import Verdict
from gateway.commissioning.runs.holding import RENEW_S, HoldOrder, outcome, run_hold

ORDER = HoldOrder(terminal="T2", p_w=10_000, span_s=60.0)


@pytest.mark.parametrize(
    ("seen_w", "verdict"),
    [
        ([10_000], Verdict.OK),
        ([22_500], Verdict.OK),
        ([22_501], Verdict.FAULT),
        ([-2_501], Verdict.FAULT),
        ([0, 20_000], Verdict.OK),
        ([], Verdict.UNDECIDED),
    ],
)
def test_the_mean_decides_whether_the_converter_followed(seen_w, verdict):
    found = outcome(ORDER, seen_w, band_w=12_500)
    assert found.verdict is verdict
    assert bool(found.findings) == (verdict is Verdict.FAULT)


def test_lowest_and_highest_are_said():
    (row,) = outcome(ORDER, [9_000, 11_000], band_w=12_500).rows
    assert row.value_text == "+10.0 kW, +9.0 … +11.0 kW"


async def test_what_is_held_outlives_the_watchdog_of_a_device_with_a_long_one(bench):
    async with bench(factor=20) as b:
        b.rack.equipment = dataclasses.replace(b.rack.equipment, device_timeout_ms=60_000)
        request, lives_s = b.site.device.firmware.request, []

        def noted(asked, now_us):
            lives_s.append(asked.ttl_s)
            request(asked, now_us)

        b.site.device.firmware.request = noted
        order = HoldOrder(terminal="T2", p_w=10_000, span_s=5.0)
        assert (await run_hold(b.rack, order)).verdict is Verdict.OK
    assert max(lives_s) - RENEW_S > 60 + 1, "killed at any moment, the watchdog comes first"
