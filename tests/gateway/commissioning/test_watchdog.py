import pytest

from gateway.commissioning import watchdog
from gateway.commissioning.finding import Verdict
from gateway.commissioning.watchdog import Expectation, How, WatchdogSample

EXPECT = Expectation(zero_within_s=7.0, zero_band_w=500)


def samples(*, zero_after_s=5.6, back_alone_s=None, end_s=30.0, p_w=10_000):
    found = []
    for k in range(int(end_s / 0.1)):
        t = k * 0.1
        silent = t - 5.0
        ramped = max(0.0, p_w - max(0.0, silent - (zero_after_s - 0.5)) * p_w / 0.5)
        if back_alone_s is not None and t > back_alone_s:
            ramped = p_w
        found.append(WatchdogSample(t_s=t, p_w=ramped))
    return found


def judge(given, *, setting=None, how=How.STOP_HEARTBEAT, t_back_s=20.0):
    return watchdog.judge(
        "sop1", how, given, t_silent_s=5.0, t_back_s=t_back_s, expectation=EXPECT, setting=setting
    )


@pytest.mark.parametrize("how", list(How))
def test_zero_in_time_and_staying_there_passes(how):
    result = judge(samples(), how=how)
    assert result.verdict is Verdict.OK
    assert abs(result.zero_after.value_s - 5.6) <= 0.1
    assert result.zero_after.resolution_s == pytest.approx(0.05)


def test_too_late_is_a_fault_with_the_time_it_took():
    result = judge(samples(zero_after_s=9.0))
    assert result.verdict is Verdict.FAULT
    assert result.findings[0].code == "no-zero"
    assert "expected within 7 s" in result.findings[0].what


def test_never_is_a_fault():
    result = judge(samples(zero_after_s=100.0))
    assert [f.code for f in result.findings] == ["no-zero"]
    assert "did not go" in result.findings[0].what


def test_coming_back_without_arming_is_a_fault():
    result = judge(samples(back_alone_s=21.0))
    assert [f.code for f in result.findings] == ["returned-alone"]
    assert judge(samples(back_alone_s=21.0), t_back_s=None).findings[0].code == "no-zero"


def test_a_disabled_watchdog_never_passes_whatever_happened():
    setting = watchdog.setting_finding("sop1", timeout_s=0, declared_s=5)
    assert setting.code == "watchdog-disabled"
    result = judge(samples(), setting=setting)
    assert result.verdict is Verdict.FAULT
    assert result.findings == (setting,)


def test_the_setting_is_held_against_the_site_file():
    assert watchdog.setting_finding("sop1", timeout_s=5, declared_s=5) is None
    longer = watchdog.setting_finding("sop1", timeout_s=60, declared_s=5)
    assert longer.code == "watchdog-long"
    assert judge(samples(), setting=longer).verdict is Verdict.FAULT


@pytest.mark.parametrize("dark_s", [9.0, 150.0])
def test_a_time_nobody_could_measure_is_undecided(dark_s):
    before = [s for s in samples() if s.t_s <= 5.0]
    after = [WatchdogSample(t_s=5.0 + dark_s + k * 0.1, p_w=0.0) for k in range(40)]
    result = judge(before + after, how=How.UNPLUG, t_back_s=None)
    assert (result.verdict, result.findings) == (Verdict.UNDECIDED, ())
    assert result.zero_after.value_s + result.zero_after.resolution_s > EXPECT.zero_within_s


def test_a_time_that_may_lie_on_either_side_of_the_limit_is_undecided():
    def within(limit_s):
        return watchdog.judge(
            "sop1", How.DROP_LINK, samples(), t_silent_s=5.0, t_back_s=None, setting=None,
            expectation=Expectation(zero_within_s=limit_s, zero_band_w=500),
        ).verdict  # fmt: skip

    # zero was seen between 5.5 and 5.6 s after the silence
    assert within(5.65) is Verdict.OK
    assert within(5.55) is Verdict.UNDECIDED
    assert within(5.45) is Verdict.FAULT


def test_a_test_without_power_says_nothing():
    assert judge(samples(p_w=100)).verdict is Verdict.UNDECIDED
