from dataclasses import replace

from gateway.commissioning import signs
from gateway.commissioning.finding import Verdict
from gateway.commissioning.signs import SignSample


def samples(p_w, *, meter_sign=-1, shares=(1, 1, 1), load_w=0, import_wh=0.0, export_wh=0.0, n=10):
    found = []
    for t in range(n):
        phases = tuple(meter_sign * (p_w / 3 * share) + load_w / 3 for share in shares)
        found.append(
            SignSample(
                t_s=t, converter_p_w=p_w, meter_p_w=sum(phases), phases_p_w=phases,
                import_wh=round(1000 + t * import_wh), export_wh=round(1000 + t * export_wh),
            )
        )  # fmt: skip
    return found


def judge(given, *, import_positive=True):
    return signs.judge("mtr-a", given, s_va=250_000, import_positive=import_positive)


def test_an_injection_lowers_what_a_grid_meter_counts_as_positive():
    assert judge(samples(50_000, export_wh=14)).verdict is Verdict.OK
    assert judge(samples(-50_000, import_wh=14)).verdict is Verdict.OK
    assert judge(samples(50_000, meter_sign=1), import_positive=False).verdict is Verdict.OK


def test_a_meter_that_counts_the_other_way_is_named():
    result = judge(samples(50_000, meter_sign=1))
    assert result.verdict is Verdict.FAULT
    assert result.findings[0].code == "sign"


def test_one_phase_against_the_others_is_named():
    result = judge(samples(50_000, shares=(1, -1, 1)))
    assert [f.code for f in result.findings] == ["phase-sign"]
    assert result.findings[0].where == "mtr-a L2"


def test_swapped_counters_are_named():
    result = judge(samples(50_000, import_wh=14))
    assert [f.code for f in result.findings] == ["counters-swapped"]
    assert "import counter grew" in result.findings[0].what


def test_too_little_power_is_undecided():
    result = judge(samples(5_000))
    assert result.verdict is Verdict.UNDECIDED
    assert result.loaded_count == 0


def test_mixed_signs_are_undecided():
    mixed = [*samples(50_000, n=5), *samples(50_000, meter_sign=1, n=5)]
    plain = [
        SignSample(t_s=t, converter_p_w=s.converter_p_w, meter_p_w=s.meter_p_w)
        for t, s in enumerate(mixed)
    ]
    assert judge(plain).verdict is Verdict.UNDECIDED


def test_a_meter_that_reads_nothing_under_load_is_undecided():
    dead = [
        SignSample(
            t_s=t, converter_p_w=100_000.0, meter_p_w=0.0, phases_p_w=(0.0,) * 3, import_wh=5,
            export_wh=5,
        )
        for t in range(30)
    ]  # fmt: skip
    result = judge(dead)
    assert (result.verdict, result.findings) == (Verdict.UNDECIDED, ())
    assert (result.loaded_count, result.told_count) == (30, 0)
    noisy = [replace(s, meter_p_w=-12_000.0) for s in dead]
    assert judge(noisy).verdict is Verdict.UNDECIDED, "below the floor there is no sign"


def test_a_few_silent_samples_do_not_hide_a_sound_meter():
    some = samples(50_000, export_wh=14, n=10)
    assert judge([*some[:9], replace(some[9], meter_p_w=0.0)]).verdict is Verdict.OK
    assert judge([*some[:5], *(replace(s, meter_p_w=0.0) for s in some[5:])]).verdict is (
        Verdict.UNDECIDED
    )
