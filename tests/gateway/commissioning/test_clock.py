import random

import pytest

from gateway.commissioning import clock
from gateway.commissioning.clock import Exchange, KernelClock
from gateway.commissioning.finding import Verdict


def test_the_host_clock_is_judged_by_what_the_kernel_says():
    assert clock.host(KernelClock(status_bits=0x2001, error_us_max=11_000, error_us=3000)) == (
        Verdict.OK,
        None,
    )
    verdict, finding = clock.host(KernelClock(status_bits=0x0040, error_us_max=0, error_us=0))
    assert (verdict, finding.code) == (Verdict.FAULT, "clock-unsynchronised")
    verdict, finding = clock.host(KernelClock(status_bits=0, error_us_max=200_000, error_us=0))
    assert (verdict, finding.code) == (Verdict.FAULT, "clock-error")


def exchanges(*, offset_s, rate_ppm=0.0, span_s=600, n=60, seed=3, step_s=0.0):
    rng = random.Random(seed)
    found = []
    for k in range(n):
        sent = 1000 + span_s * k / n
        there, back = rng.uniform(0.001, 0.02), rng.uniform(0.001, 0.02)
        at = sent + there
        true = at + offset_s + (at - 1000) * rate_ppm / 1e6
        found.append(
            Exchange(
                sent_s=sent,
                device_s=true if not step_s else true // step_s * step_s,
                received_s=at + back,
            )
        )
    return found


def test_offset_is_within_its_uncertainty():
    for seed in range(20):
        got = clock.device(exchanges(offset_s=0.25, seed=seed))
        assert abs(got.offset_s - 0.25) <= got.offset_uncertainty_s + 1e-9
        assert got.offset_uncertainty_s < 0.01


def test_whole_seconds_are_sharpened_by_many_readings():
    got = clock.device(exchanges(offset_s=0.37, step_s=1.0, n=200, span_s=617), step_s=1.0)
    assert abs(got.offset_s - 0.37) <= got.offset_uncertainty_s + 1e-9
    assert got.offset_uncertainty_s < 0.1


@pytest.mark.parametrize(
    ("rate_ppm", "verdict"), [(30, Verdict.OK), (2000, Verdict.FAULT), (503, Verdict.UNDECIDED)]
)
def test_the_rate_is_judged_with_its_uncertainty(rate_ppm, verdict):
    got = clock.device(exchanges(offset_s=0, rate_ppm=rate_ppm))
    assert abs(got.rate_ppm - rate_ppm) <= got.rate_uncertainty_ppm
    assert clock.device_verdict("sop1", got)[0] is verdict


def test_no_exchange_says_nothing():
    assert clock.device([]) is None
    assert clock.device_verdict("sop1", None)[0] is Verdict.UNDECIDED
    one = clock.device(exchanges(offset_s=0, n=1))
    assert one.rate_ppm is None
