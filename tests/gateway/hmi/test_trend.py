import dataclasses

from gateway.hmi.trend import Trend


def test_trend_is_a_ring(view):
    trend = Trend(samples_max=10)
    for k in range(25):
        trend.add(dataclasses.replace(view, utc_us=k, v_dc_dv=8_000 + k))
    assert len(trend) == 10
    assert trend.dc_voltage()[0] == (15, 801.5)


def test_the_same_instant_is_kept_once_and_a_clock_set_back_takes_what_is_later(view):
    trend = Trend()
    for k, utc_us in enumerate((2, 5, 5, 9, 4, 6)):
        trend.add(dataclasses.replace(view, utc_us=utc_us, v_dc_dv=8_000 + k))
    assert trend.dc_voltage() == [(2, 800.0), (4, 800.4), (6, 800.5)]


def test_unknown_values_break_the_line(view):
    trend = Trend()
    trend.add(view)
    trend.add(dataclasses.replace(view, utc_us=view.utc_us + 1, v_dc_dv=None, terminals=()))
    assert [v for _, v in trend.dc_voltage()] == [801.2, None]
    assert [v for _, v in trend.power("T2")] == [-150.2, None]
    assert [v for _, v in trend.power_set("T2")] == [-150.0, None]


def test_last_values_of_a_silent_station_are_no_samples(view, silent):
    trend = Trend()
    trend.add(view)
    trend.add(dataclasses.replace(silent, utc_us=view.utc_us + 1))
    assert [v for _, v in trend.dc_voltage()] == [801.2, None]
    assert [v for _, v in trend.power("T2")] == [-150.2, None]
