"""A site file becomes frozen values, in base units, with one hash."""

import dataclasses
from pathlib import Path

import pytest

from gateway.cli.replay_decisions import site_of
from gateway.config.core_site import config_fields, core_site
from gateway.config.site_file import check_site, load_site, site_from_text
from gateway.config.yaml_reader import ConfigFileError
from gateway.devices.profile import Kind

ROOT = Path(__file__).resolve().parents[3]
BENCH = ROOT / "configs" / "sites" / "bench4.yaml"
SEPARATE = ROOT / "configs" / "sites" / "separate4.yaml"


@pytest.fixture(scope="module")
def site():
    return load_site(BENCH)


@pytest.mark.parametrize("path", sorted(BENCH.parent.glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_sites_load_without_a_warning(path):
    document, site = check_site(path)
    assert document.problems == []
    assert site is not None


def separate(text):
    document, site = site_from_text(text, path=SEPARATE)
    assert document.problems == []
    return site.sops[0]


def test_a_site_may_have_a_converter_at_each_terminal():
    config = load_site(SEPARATE).sops[0]
    assert config.converters == {"T1": "c1", "T2": "c2", "T3": "c3", "T4": "c4"}
    assert (config.separate, config.station) == (True, "")
    assert config.controllers == ("c1", "c2", "c3", "c4")
    assert [(t.id, t.index) for t in config.sop.terminals] == [
        ("T1", 0), ("T2", 1), ("T3", 2), ("T4", 3),
    ]  # fmt: skip


def test_without_an_index_terminals_stand_in_the_order_of_the_file():
    text = SEPARATE.read_text().replace("T2: {converter", "T2: {index: 0, converter")
    config = separate(text)
    assert [(t.id, t.index) for t in config.sop.terminals] == [
        ("T2", 0), ("T1", 1), ("T3", 2), ("T4", 3),
    ]  # fmt: skip
    assert list(config.converters) == ["T2", "T1", "T3", "T4"]


def test_a_site_with_a_station_has_one_controller(site):
    config = site.sops[0]
    assert (config.separate, dict(config.converters)) == (False, {})
    assert config.controllers == ("station",)


def test_the_effective_configuration_names_a_station_or_converters(site):
    one = site.effective["sops"]["SOP-1"]
    each = load_site(SEPARATE).effective["sops"]["SOP-1"]
    assert (one["station"], "converters" in one) == ("station", False)
    assert (each["converters"]["T3"], "station" in each) == ("c3", False)


@pytest.mark.parametrize(
    ("path", "permille"), [(BENCH, 25), (SEPARATE, 20)], ids=["station", "converters"]
)
def test_converters_are_planned_with_the_ramp_they_can_be_told(path, permille):
    _, site = site_from_text(path.read_text().replace("20 %/s", "2.5 %/s", 1), path=path)
    core = core_site(site, site.sops[0])
    assert core.ramp_permille_per_s == permille
    assert {t.ramp_w_per_s for t in core.sop.terminals} == {250 * permille}


def test_only_separate_converters_stand_in_the_configuration_entry(site):
    entries = {}
    for each in (site, load_site(SEPARATE)):
        core = core_site(each, each.sops[0])
        entries[each.id] = config_fields(each, core, b"k" * 32)
        assert site_of(entries[each.id]) == core
    assert entries["separate4"]["separate"] is True
    assert "separate" not in entries["bench4"]


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


def test_a_profile_by_path_is_the_one_beside_the_site_file_wherever_one_asks(tmp_path, monkeypatch):
    shipped = (ROOT / "configs" / "profiles" / "schneider-iem3255.yaml").read_text(encoding="utf-8")
    site = tmp_path / "site" / "site.yaml"
    site.parent.mkdir()
    text = BENCH.read_text(encoding="utf-8")
    site.write_text(text.replace("profile: schneider-iem3255", "profile: meter.yaml"))
    (site.parent / "meter.yaml").write_text(
        shipped.replace("profile: schneider-iem3255", "profile: meter")
    )
    seen = load_site(site).sha256
    (tmp_path / "meter.yaml").write_text("profile: another\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_site(site).sha256 == seen


def test_the_log_and_the_papers_for_witnesses_count_in_the_hash(site):
    text = BENCH.read_text(encoding="utf-8")
    logged = site_from_text(text + "log: {format: json}\n", path=BENCH)[1]
    tls = "tls: {ca: a.pem, certificate: b.pem, key: {file: c.pem}}, witnesses: []"
    shown = site_from_text(text.replace("witnesses: []", tls), path=BENCH)[1]
    assert len({site.sha256, logged.sha256, shown.sha256}) == 3
