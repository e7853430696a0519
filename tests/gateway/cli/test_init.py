"""``sopgw init``: a site file that checks, and nothing overwritten."""

import pytest

from gateway.config.site_file import load_site


@pytest.mark.parametrize("name", ["Elm Street", 'Straße "Nord" \\ 4', "变电站", "a: {b", "x" * 100])
def test_the_first_site_checks_and_writes_nothing_to_devices(sopgw, tmp_path, name):
    answer = sopgw(
        "init", tmp_path / "etc", "--site", name, "--timezone", "Europe/Madrid", "--json"
    ).json
    site = load_site(tmp_path / "etc" / "sopgw.yaml")
    assert answer["data"]["site"] == site.id
    assert (site.name, site.timezone, site.mode) == (name, "Europe/Madrid", "blocked")
    assert site.ledger.origin == f"{site.id}.example/SOP-1"
    assert (tmp_path / "etc" / "secrets").stat().st_mode & 0o077 == 0
    assert sopgw("config", "check", tmp_path / "etc" / "sopgw.yaml").exit_code == 0


def test_a_second_time_leaves_the_file_alone(sopgw, tmp_path):
    assert sopgw("init", tmp_path).exit_code == 0
    (tmp_path / "sopgw.yaml").write_text("mine")
    answer = sopgw("init", tmp_path, "--json").json
    assert answer["exit_code"] == 5
    assert (tmp_path / "sopgw.yaml").read_text() == "mine"


def test_a_time_zone_that_is_none_writes_nothing(sopgw, tmp_path):
    answer = sopgw("init", tmp_path / "x", "--timezone", "Mars/Olympus", "--json").json
    assert answer["exit_code"] == 3
    assert answer["errors"][0]["code"] == "C036"
    assert not (tmp_path / "x").exists()


def test_an_editor_finds_the_schema(sopgw, tmp_path):
    sopgw("init", tmp_path)
    first = (tmp_path / "sopgw.yaml").read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=/")
    assert first.endswith("config.schema.json")
