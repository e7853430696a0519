"""A site file becomes frozen values, in base units, with one hash."""

import dataclasses
from pathlib import Path

import pytest

from gateway.config.site_file import check_site, load_site, site_from_text
from gateway.config.yaml_reader import ConfigFileError
from gateway.devices.profile import Kind

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"


@pytest.fixture(scope="module")
def site():
    return load_site(BENCH)


def test_the_bench_loads_without_a_warning():
    document, site = check_site(BENCH)
    assert document.problems == []
    assert site is not None


def test_powers_and_times_are_whole_base_units(site):
    sop = site.sops[0].sop
    assert [t.id for t in sop.terminals] == ["T1", "T2", "T3", "T4"]
    first = sop.terminal("T1")
    assert (first.s_va, first.p_w_min, first.p_w_max) == (250_000, -230_000, 230_000)
    assert first.ramp_w_per_s == 50_000
    assert (first.v_dv_min, first.v_dv_max) == (3600, 4400)
    assert (sop.v_dc_dv_min, sop.v_dc_dv_max, sop.throughput_w) == (7200, 8800, 500_000)
    assert (sop.losses.a_ppm, sop.losses.b_ppm, sop.losses.c_ppm) == (4000, 6000, 6000)
    assert (site.market.gate_s, site.market.horizon_s) == (120, 172_800)
    assert (site.runtime.scan_ms, site.runtime.meter_poll_ms) == (1000, 5000)
    heartbeat = site.sops[0].heartbeat
    assert (heartbeat.period_ms, heartbeat.device_timeout_ms) == (1000, 5000)


def test_devices_carry_their_profiles(site):
    assert site.devices["station"].profile.kind is Kind.STATION
    assert site.devices["station"].unit == 100
    assert site.devices["m3"].url == "modbus+tcp://127.0.0.1:5023"
    assert site.sops[0].station == "station"


def test_paths_are_relative_to_the_file(site):
    assert site.ledger.dir == BENCH.parent / "ledger"
    assert site.ledger.key_file == BENCH.parent / "ledger.key"


def test_an_absolute_ramp_stands_as_written():
    text = BENCH.read_text().replace("ramp: 20 %/s", "ramp: 12 kW/s", 1)
    _, site = site_from_text(text, path=BENCH)
    assert site is not None
    assert site.sops[0].sop.terminal("T1").ramp_w_per_s == 12_000


def test_the_hash_is_of_what_the_file_means_not_of_its_layout(site):
    text = BENCH.read_text()
    _, spaced = site_from_text("# a remark\n" + text, path=BENCH)
    _, changed = site_from_text(text.replace("gate: 2 min", "gate: 3 min"), path=BENCH)
    _, respelled = site_from_text(text.replace("gate: 2 min", "gate: 120 s"), path=BENCH)
    assert spaced is not None
    assert changed is not None
    assert respelled is not None
    assert spaced.sha256 == respelled.sha256 == site.sha256
    assert changed.sha256 != site.sha256


def test_the_effective_configuration_holds_no_float_and_no_place_of_this_machine(site):
    def walk(value):
        if isinstance(value, dict):
            for inner in value.values():
                yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)
        else:
            yield value

    leaves = list(walk(site.effective))
    assert not [leaf for leaf in leaves if isinstance(leaf, float)]
    assert not [leaf for leaf in leaves if isinstance(leaf, str) and str(ROOT) in leaf]


def test_a_site_cannot_be_changed(site):
    with pytest.raises(dataclasses.FrozenInstanceError):
        site.mode = "off"


def test_a_missing_file_is_a_problem(tmp_path):
    with pytest.raises(ConfigFileError) as caught:
        load_site(tmp_path / "none.yaml")
    assert [p.code for p in caught.value.problems] == ["C001"]


def test_nothing_is_written_where_secrets_are_handed_over(tmp_path):
    text = BENCH.read_text(encoding="utf-8")
    path = tmp_path / "site.yaml"
    path.write_text(text)
    assert load_site(path).ledger.answer_key_file == tmp_path / "answers.key"
    path.write_text(text.replace("{file: ledger.key}", "{secret: log}"))
    found = load_site(path).ledger
    assert found.key_file.parent != tmp_path
    assert found.answer_key_file == tmp_path / "answers.key"


def test_an_own_market_node_is_read_and_counts_in_the_hash(site):
    text = BENCH.read_text()
    node = "  node: {url: http://127.0.0.1:8470, party: gw}\n"
    with_node = text.replace("  required:", f"{node}  required:")
    assert with_node != text
    _, found = site_from_text(with_node, path=BENCH)
    assert (found.market.node.url, found.market.node.party) == ("http://127.0.0.1:8470", "gw")
    assert site.market.node is None
    assert found.sha256 != site.sha256
    for wrong in ("url: ftp://x", "party: ''", "colour: red", "url: http://a b"):
        changed = with_node.replace("party: gw", f"party: gw, {wrong}")
        document, refused = site_from_text(changed, path=BENCH)
        assert refused is None
        assert document.problems
