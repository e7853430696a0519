"""Manual pages come from the commands; completion from the shell's own script."""

from importlib import metadata

import pytest


def test_all_pages_are_written(sopgw, tmp_path):
    answer = sopgw("man", "--write", tmp_path / "man1", "--json").json
    names = {p.name for p in (tmp_path / "man1").iterdir()}
    assert len(names) == len(answer["data"]["written"])
    assert {"sopgw.1", "sopgw-config-check.1", "sopgw-profile-test.1"} <= names


def test_a_page_has_its_sections_and_is_the_same_twice(sopgw):
    page = sopgw("man", "config", "check").out
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS"):
        assert f".SH {section}" in page
    assert "sopgw config check site.yaml" in page
    assert page == sopgw("man", "config", "check").out


def test_no_line_is_taken_for_a_request_of_roff(sopgw, tmp_path):
    requests = {".TH", ".SH", ".TP", ".B"}
    sopgw("man", "--write", tmp_path)
    for path in tmp_path.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line.startswith(".") or line.split()[0] in requests, line


def test_a_page_of_no_command(sopgw):
    assert sopgw("man", "nothing", "--json").json["exit_code"] == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(sopgw, shell):
    assert "_SOPGW_COMPLETE" in sopgw("completion", shell).out
    assert sopgw("completion", shell, "--json").json["data"]["where"]


def test_version(sopgw):
    data = sopgw("version", "--json").json["data"]
    assert data["version"] == metadata.version("sop-gateway")
    assert sopgw("version").out.startswith(f"sopgw {metadata.version('sop-gateway')}\n")
    assert sopgw("--version").out == f"sopgw {metadata.version('sop-gateway')}\n"
