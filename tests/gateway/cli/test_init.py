import os
import re

import pytest

from gateway.config.yaml_reader import read_file

KEY = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="  # the test key of RFC 8032


def test_the_file_that_init_writes_is_yaml_and_is_not_overwritten(tmp_path, sopgw):
    answer = sopgw("init", tmp_path / "etc", "--site", "elm", "--name", "Elm Street", "--json")
    assert answer.exit_code == 0
    path = tmp_path / "etc" / "sopgw.yaml"
    assert answer.json["data"]["file"] == str(path)
    document = read_file(path, prefix="C")
    assert not document.problems
    assert document.root.get("site", "name").value == "Elm Street"
    assert (tmp_path / "etc" / "secrets").stat().st_mode & 0o077 == 0
    again = sopgw("init", tmp_path / "etc", "--json")
    assert again.exit_code == 5
    assert again.json["errors"][0]["code"] == "I001"
    assert path.read_text().count("Elm Street") == 1


def test_the_service_can_read_what_a_careful_shell_wrote(tmp_path, sopgw):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    before = os.umask(0o077)
    try:
        for folder in (tmp_path / "etc", private):
            assert sopgw("init", folder).exit_code == 0
    finally:
        os.umask(before)
    for folder in (tmp_path / "etc", private):
        assert (folder / "sopgw.yaml").stat().st_mode & 0o777 == 0o644
        assert (folder / "profiles").stat().st_mode & 0o777 == 0o755
        assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755
    assert private.stat().st_mode & 0o777 == 0o700, "a folder that was there keeps its mode"


def test_what_is_missing_is_told_by_config_check(tmp_path, sopgw):
    sopgw("init", tmp_path)
    answer = sopgw("config", "check", tmp_path / "sopgw.yaml", "--json")
    assert answer.exit_code == 3
    assert answer.json["errors"]


def test_with_the_comments_taken_away_it_is_a_whole_site(tmp_path, sopgw):
    """Only what no template can know is missing: a second terminal and a signer."""
    sopgw("init", tmp_path, "--site", "elm")
    path = tmp_path / "sopgw.yaml"
    text = re.sub(r"^  # find them.*\n", "", path.read_text(), flags=re.MULTILINE)
    text = re.sub(r"^  # ", "  ", text, flags=re.MULTILINE)
    text = text.replace("signers: []", f'signers: [{{name: m, key: "{KEY}"}}]')
    first = text[text.index("      T1:") : text.index("\nmarket:")]
    second = (
        first.replace("T1", "T2").replace("index: 0", "index: 1").replace("region-a", "region-b")
    )
    second = second.replace("m1", "m2")
    text = text.replace(first, first + second.rstrip() + "\n")
    meter = next(line for line in text.splitlines() if line.startswith("  m1:"))
    path.write_text(
        text.replace(meter, meter + "\n" + meter.replace("m1", "m2").replace(".31", ".32"))
    )
    answer = sopgw("config", "check", path, "--json")
    assert answer.exit_code == 0, answer.out


def test_what_is_written_does_not_lie_with_the_configuration(tmp_path, sopgw, monkeypatch):
    from gateway.cli import init as module

    monkeypatch.setattr(module, "CONFIGURATION", tmp_path / "etc")
    for folder, arguments, state in (
        ("etc/sopgw", (), "/var/lib/sopgw/"),
        ("here", (), ""),
        ("there", ("--state", "/srv/sop"), "/srv/sop/"),
    ):
        assert sopgw("init", tmp_path / folder, *arguments).exit_code == 0
        text = (tmp_path / folder / "sopgw.yaml").read_text()
        assert f"dir: {state}ledger\n" in text
        assert f"file: {state}ledger.key}}" in text


@pytest.mark.parametrize(
    "name",
    ["Elm: Street", "{x}", '"quoted"', "# not a comment", "it's", "北 站", "@at", "*star", "yes",
     "12", "a, b", "[list]", "tail:", "- dash", "50 %", "C:\\sop", "null", "é è"],
)  # fmt: skip
def test_any_printable_name_is_read_back_as_it_was_typed(name, tmp_path, sopgw):
    assert sopgw("init", tmp_path / "e", "--name", name, "--json").exit_code == 0
    document = read_file(tmp_path / "e" / "sopgw.yaml", prefix="C")
    assert not document.problems
    assert document.root.get("site", "name").value == name


@pytest.mark.parametrize(
    "arguments",
    [("--name", "two\nlines"), ("--name", "   "), ("--site", "a b"), ("--site", "{id}"),
     ("--site", ""), ("--name", "\x07")],
)  # fmt: skip
def test_what_a_site_file_cannot_hold_is_refused_and_nothing_is_written(arguments, tmp_path, sopgw):
    assert sopgw("init", tmp_path / "e", *arguments, "--json").exit_code == 2
    assert not (tmp_path / "e").exists()


def test_devices_can_be_added_to_it_one_after_the_other(tmp_path, sopgw):
    sopgw("init", tmp_path, "--site", "elm")
    path = tmp_path / "sopgw.yaml"
    for name, url, profile in (
        ("station", "modbus+tcp://127.0.0.1:5020", "sop-station-v1"),
        ("m1", "modbus+tcp://127.0.0.1:5021", "schneider-iem3255"),
    ):
        words = ("device", "add", name, "--url", url, "--profile", profile, "--yes")
        assert sopgw(*words, "-c", path, "--json").exit_code == 0
    devices = read_file(path, prefix="C").root.get("devices")
    assert sorted(name for name, _, _ in devices.pairs()) == ["m1", "station"]
