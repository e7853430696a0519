"""A kept plan is applied to the SOP it was made for, where the site has several."""

import pytest
from fakes.cabinet import Cabinet


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A cabinet with SOP-1, and beside it SOP-2, whose devices do not answer."""
    found = Cabinet(tmp_path, factor=20)
    lines = (tmp_path / "site.yaml").read_text().splitlines()
    devices, sops, market = (lines.index(f"{k}:") for k in ("devices", "sops", "market"))
    second = [
        line.replace("SOP-1", "SOP-2")
        .replace("station: station", "station: stationB")
        .replace("region-", "other-")
        .replace("meter: m", "meter: n")
        .replace("      T", "      U")
        .replace("master: T", "master: U")
        for line in lines[sops + 1 : market]
    ]
    mute = [
        '  stationB: {profile: sop-station-v1, url: "modbus+tcp://127.0.0.1:1", unit: 100}',
        *(
            f'  n{k}: {{profile: schneider-iem3255, url: "modbus+tcp://127.0.0.1:1", unit: {k}}}'
            for k in range(1, 5)
        ),
    ]
    lines[market:market] = second
    lines[devices + 1 : devices + 1] = mute
    (tmp_path / "site.yaml").write_text("\n".join(lines) + "\n")
    for name in ("SOPGW_CONFIG", "SOPGW_TIMEBASE"):
        monkeypatch.setenv(name, found.env[name])
    yield found
    found.close()


def test_a_plan_of_a_site_with_several_sops_is_applied_to_its_own(site, sopgw):
    words = ("test", "hold", "T2", "--power", "10kW", "--for", "2s", "--sop", "SOP-1")
    kept = sopgw(*words, "--json")
    assert kept.exit_code == 6
    plan = kept.json["data"]["plan"]
    answer = sopgw("apply", plan["id"], "--json")
    assert answer.exit_code in (0, 9), answer.out
    assert answer.json["schema"] == "sopgw/v1/test.hold"
    assert answer.json["ledger"]["entry"] is not None


@pytest.mark.parametrize("test", ["estop", "watchdog"])
def test_the_station_named_is_the_one_that_is_tested(test, site, sopgw):
    before = site.say(do="look")["writes"]
    answer = sopgw("test", test, "stationB", "--sop", "SOP-1", "--yes", "--json")
    assert (answer.exit_code, answer.json["errors"][0]["code"]) == (2, "E002")
    assert "stationB" in answer.json["errors"][0]["message"]
    assert site.say(do="look")["writes"] == before


def test_signals_of_another_station_are_not_taken_for_its_own(site, sopgw):
    assert sopgw("test", "signals", "m1", "--sop", "SOP-1", "--json").exit_code == 2
