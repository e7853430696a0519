"""Broken files: every mistake at its line and column, with the mend, and nothing else said.

What is expected stands at the end of each file: ``# expect CODE LINE:COLUMN words of the help``.
"""

import re
from pathlib import Path

import pytest

from gateway.config.problem import report_text
from gateway.config.profile_file import check_profile, load_profile
from gateway.config.site_file import check_site, load_site
from gateway.config.yaml_reader import ConfigFileError

HERE = Path(__file__).parent
PROFILES = sorted((HERE / "broken" / "profile").glob("*.yaml"))
SITES = sorted((HERE / "broken" / "site").glob("*.yaml"))
EXPECT = re.compile(r"^# expect (\w+) (\d+):(\d+) (.*)$", re.MULTILINE)
UNQUOTED = {
    "secret-in-the-file", "tab-indent", "password-in-the-broker", "password-in-an-address",
}  # fmt: skip
WARNINGS = {"P031", "P034", "P057", "C041"}


def expected(path):
    rows = EXPECT.findall(path.read_text(encoding="utf-8"))
    assert rows, f"{path.name} says what is wrong with it"
    return [(code, int(line), int(column), mend) for code, line, column, mend in rows]


def assert_as_expected(path, problems):
    wanted = expected(path)
    found = sorted(problems, key=lambda p: (p.line, p.column))
    places = [(p.code, p.line, p.column) for p in found]
    assert places == sorted(((c, n, k) for c, n, k, _ in wanted), key=lambda w: w[1:])
    for (_, _, _, mend), problem in zip(sorted(wanted, key=lambda w: w[1:3]), found, strict=True):
        assert mend in problem.help, problem.help
        assert (problem.severity == "warning") == (problem.code in WARNINGS)


def assert_underlined(path, document):
    text = report_text(document.problems)
    for problem in document.problems:
        assert f"{problem.file}:{problem.line}:{problem.column}" in text
        underlined = problem.source_line[problem.column - 1 :][: problem.width]
        assert underlined.strip() or path.stem in UNQUOTED
    assert text.endswith("Nothing was loaded.") == document.failed


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.stem)
def test_a_broken_profile_is_told_where_and_how_to_mend(path):
    document, profile = check_profile(path)
    assert_as_expected(path, document.problems)
    assert_underlined(path, document)
    if document.failed:
        assert profile is None


@pytest.mark.parametrize("stem", ["password-in-the-broker", "password-in-an-address"])
def test_a_password_in_an_address_is_not_repeated(stem):
    path = HERE / "broken" / "site" / f"{stem}.yaml"
    assert "hunter2" in path.read_text(encoding="utf-8")
    assert "hunter2" not in report_text(check_site(path)[0].problems)


@pytest.mark.parametrize("path", SITES, ids=lambda p: p.stem)
def test_a_broken_site_is_told_where_and_how_to_mend(path):
    document, site = check_site(path)
    assert_as_expected(path, document.problems)
    assert_underlined(path, document)
    assert site is None


def test_loading_raises_with_every_problem():
    for path, load in ((SITES[0], load_site), (PROFILES[0], load_profile)):
        with pytest.raises(ConfigFileError) as caught:
            load(path)
        assert [p.code for p in caught.value.problems] == [code for code, *_ in expected(path)]


def test_there_are_enough_of_them():
    assert len(PROFILES) >= 25
    assert len(SITES) >= 20


def test_the_unbroken_profile_has_nothing_to_mend():
    document, profile = check_profile(HERE / "acme.yaml")
    assert document.problems == []
    assert profile is not None


def test_the_whole_report_reads_like_this(monkeypatch):
    monkeypatch.chdir(HERE / "broken" / "profile")
    document, _ = check_profile(Path("unit-in-wrong-case.yaml"))
    assert report_text(document.problems) == (
        "error[P012]: unknown unit “w” for point “t1.p”\n"
        "  --> unit-in-wrong-case.yaml:31:65\n"
        "   |\n"
        "31 |   t1.p:        {reg: holding/60, doc: 40061, type: int32, unit: w}\n"
        "   |                                                                 ^\n"
        "   = help: write `unit: W` (units are case-sensitive: W, not w)\n"
        "\n"
        "unit-in-wrong-case.yaml: 1 error. Nothing was loaded."
    )


def test_a_secret_written_into_the_file_is_not_repeated():
    path = HERE / "broken" / "site" / "secret-in-the-file.yaml"
    document, _ = check_site(path)
    assert "hunter2" in path.read_text(encoding="utf-8")
    assert "hunter2" not in report_text(document.problems)
