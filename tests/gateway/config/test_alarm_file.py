"""The alarm file: the shipped one is whole, a site's own replaces it, every mistake is placed."""

import pytest

from gateway.config.alarm_file import alarm_path, load_alarms
from gateway.config.yaml_reader import ConfigFileError
from gateway.core.alarm_conditions import CONDITIONS
from gateway.hmi.alarms import PRIORITIES, priority
from gateway.hmi.language import LANGUAGES, Words

GOOD = """\
version: 1
alarms:
  A-120:
    what: Converter does not answer
    cause: network
    consequence: trades at risk
    response: check the link
    respond_within: 15 min
    priority: 2
    delay: 5 s
    clear: 5 s
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    return load_alarms(alarm_path(tmp_path_factory.mktemp("site")))


def test_the_shipped_list_has_a_row_for_every_condition(shipped):
    assert [r.code for r in shipped] == list(CONDITIONS)
    assert 14 <= len(shipped) <= 25
    for rule in shipped:
        assert all((rule.what, rule.cause, rule.consequence, rule.response)), rule.code
        assert rule.delay_ms < rule.respond_s * 1000 or rule.priority_level >= 3, rule.code


def test_few_are_urgent(shipped):
    levels = [r.priority_level for r in shipped]
    assert levels.count(1) <= 3
    assert all(r.delay_ms <= 20_000 for r in shipped if r.priority_level == 1)


def test_the_page_rates_and_words_the_same(shipped):
    for rule in shipped:
        assert priority(rule.code) == rule.priority_level, rule.code
        assert rule.code in PRIORITIES or rule.priority_level == 3
        for language in LANGUAGES:
            assert Words(language).has(f"alarm.{rule.code}"), (language, rule.code)
            assert Words(language).has(f"alarm.{rule.code}.do"), (language, rule.code)


def test_a_sites_own_list_replaces_the_shipped_one(tmp_path):
    (tmp_path / "alarms.yaml").write_text(GOOD)
    (rule,) = load_alarms(alarm_path(tmp_path))
    assert (rule.delay_ms, rule.respond_s, rule.unless) == (5000, 900, ())


@pytest.mark.parametrize(
    ("old", "new", "code", "line"),
    [
        ("A-120:", "A-999:", "R024", 3),
        ("priority: 2", "priority: 9", "R014", 9),
        ("delay: 5 s", "delay: 5", "R012", 10),
        ("delay: 5 s", "delay: 2 h", "R015", 10),
        ("cause: network\n", "cause: network\n    colour: red\n", "R010", 5),
        ("    clear: 5 s", "    clear: 5 s\n    unless: [A-121]", "R024", 12),
        ("    response: check the link\n", "", "R011", 3),
    ],
)
def test_every_mistake_has_its_place(tmp_path, old, new, code, line):
    path = tmp_path / "alarms.yaml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigFileError) as caught:
        load_alarms(path)
    (problem,) = caught.value.problems
    assert (problem.code, problem.help != "") == (code, True)
    assert abs(problem.line - line) <= 1


def test_two_lists_are_one_mistake(tmp_path):
    path = tmp_path / "alarms.yaml"
    second = GOOD.partition("\n")[2].replace("A-120", "A-110")
    path.write_text(GOOD + second)
    with pytest.raises(ConfigFileError) as caught:
        load_alarms(path)
    assert "a second time" in str(caught.value)


def test_an_alarm_that_would_leave_itself_out_is_told(tmp_path):
    path = tmp_path / "alarms.yaml"
    path.write_text(GOOD + "    unless: [A-120]\n", encoding="utf-8")
    with pytest.raises(ConfigFileError, match="because of itself"):
        load_alarms(path)
