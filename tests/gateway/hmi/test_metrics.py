import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.hmi import metrics
from gateway.hmi.state import RefusedView

LINE = re.compile(r'^([a-z_]+)(\{([a-z_0-9]+="[^"]*",?)+\})? -?[0-9.e+]+$')


def samples(text):
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


def test_every_line_is_help_type_or_a_sample_of_the_family_above(view):
    family = ""
    for line in metrics.render(view).splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
        else:
            assert LINE.match(line), line
            assert re.sub(r"_(bucket|sum|count)$", "", line.split("{")[0].split()[0]) == family


def test_values_are_those_of_the_view(view):
    told = samples(metrics.render(view))
    assert told['sopgw_terminal_active_power_watts{sop="SOP-1",terminal="T2"}'] == -150_200
    assert told['sopgw_setpoint_watts{sop="SOP-1",terminal="T3"}'] == 150_000
    assert told['sopgw_dc_link_volts{sop="SOP-1"}'] == 801.2
    assert told['sopgw_meter_energy_joules_total{meter="m3",direction="export"}'] == 4_000 * 3600
    assert told['sopgw_trade_energy_delivered_joules_total{sop="SOP-1",outcome="partial"}'] == 41_000 * 3600  # fmt: skip
    assert told['sopgw_alarm_active{sop="SOP-1",code="A-160",priority="3"}'] == 1
    assert told['sopgw_device_up{device="m4"}'] == 0


def test_unknown_values_are_left_out_not_told_as_zero(make_view):
    text = metrics.render(make_view(v_dc_dv=None, loss_w=None, terminals=()))
    assert "sopgw_dc_link_volts" not in text
    assert "sopgw_terminal_active_power_watts" not in text


def test_histogram_is_cumulative_and_ends_with_its_count(view):
    told = samples(metrics.render(view))
    buckets = [
        v for k, v in told.items() if k.startswith('sopgw_poll_duration_seconds_bucket{device="station"')
    ]  # fmt: skip
    assert buckets == [1, 5, 10, 10, 10, 10, 10, 10, 10, 11]
    assert told['sopgw_poll_duration_seconds_count{device="station"}'] == 11
    assert told['sopgw_poll_duration_seconds_bucket{device="station",le="0.005"}'] == 1
    assert told['sopgw_poll_duration_seconds_sum{device="station"}'] == 3.17


def test_no_trade_id_becomes_a_label(view):
    assert "T-004" not in metrics.render(view)


def test_label_values_are_quoted(make_view):
    text = metrics.render(make_view(version='a"b\\c\nd'))
    assert 'version="a\\"b\\\\c\\nd"' in text


@pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("SOPGW_REQUIRE_SERVERS") != "1",
    reason="promtool is not installed",
)
def test_promtool_has_nothing_to_say(view):
    run = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics.render(view),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout + run.stderr) == (0, "")


def test_the_page_about_metrics_names_all_of_them_and_no_other(view):
    text = (Path(__file__).parents[3] / "docs" / "page.md").read_text()
    told = set(re.findall(r"`(sopgw_[a-z_]+)`", text))
    given = {
        line.split()[2] for line in metrics.render(view).splitlines() if line.startswith("# TYPE")
    }
    assert told == given


def test_sums_of_reported_intervals_are_told_before_the_first_of_them(make_view):
    told = samples(metrics.render(make_view(settled=())))
    for name in ("energy_contracted_joules", "energy_delivered_joules", "intervals"):
        sums = {k: v for k, v in told.items() if k.startswith(f"sopgw_trade_{name}_total")}
        assert len(sums) == 4, name
        assert set(sums.values()) == {0}


def test_values_of_silent_devices_are_left_out_and_their_counters_stay(silent):
    told = samples(metrics.render(silent))
    assert not [k for k in told if k.startswith(("sopgw_terminal", "sopgw_setpoint", "sopgw_dc"))]
    assert not [k for k in told if k.startswith(("sopgw_meter_active", "sopgw_loss")) and "T4" in k]
    assert told['sopgw_meter_active_power_watts{sop="SOP-1",terminal="T3"}'] == 150_120
    assert told['sopgw_meter_energy_joules_total{meter="m4",direction="export"}'] == 6_000 * 3600
    assert told['sopgw_device_up{device="station"}'] == 0


@pytest.mark.parametrize("device", ["station", "SOP-1"])
def test_values_of_a_silent_station_are_counted_as_stale(silent, device):
    name = 'sopgw_points_stale{sop="SOP-1"}'
    point = dataclasses.replace(silent.points[0], device=device, quality="good")
    meter = dataclasses.replace(point, device="m1")
    told = samples(metrics.render(dataclasses.replace(silent, points=(point, point, meter))))
    assert told[name] == 2


def test_refused_trades_of_the_last_day_are_counted(make_view, view):
    told = [
        RefusedView(id="x", utc_us=view.utc_us - hours * 3_600_000_000, reasons=("late",))
        for hours in (0, 23, 25)
    ]
    given = samples(metrics.render(make_view(refused=tuple(told))))
    assert given['sopgw_trades{sop="SOP-1",outcome="refused"}'] == 2
