"""The reader gives plain data with places, or problems; no text makes it crash."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.config.problem import Problem, report_text
from gateway.config.profile_file import profile_from_text
from gateway.config.site_file import site_from_text
from gateway.config.yaml_reader import DEPTH_MAX, FILE_BYTES_MAX, nearest, read_file, read_text

HERE = Path(__file__).parent
SITE = (HERE.parents[2] / "configs" / "sites" / "bench4.yaml").read_text(encoding="utf-8")
PROFILE = (HERE / "acme.yaml").read_text(encoding="utf-8")
PIECES = (
    "{", "}", "[", "]", ":", ": ", ",", "- ", "-", "\n", "\n  ", "\n    ", "\t", '"', "'", "|", ">",
    "&a", "*a", "!!int", "!x ", "%YAML 1.1\n", "---", "...", "<<: ", "#", "?", "? ", "@", "`", "\\U",
    '"\\UFFFFFFFF"', '"\\x0', "null", "~", "true", "1e400", "0x", "9" * 5000, "1e-999", ".nan", "-.inf",
    "250 kVA", "-", "[1, 2]", "{a: 1}", "\x00", "\x85", "\u2028", "\ufeff", "\ud7ff", "👁", "é",
    "like: t1.p", "each_terminal:", "count: 99999999999", "stride: 0", "reg: holding/70000",
)  # fmt: skip


def mangled(base):
    """A file with a few cuts and insertions, as a tired person or a bad editor makes them."""
    cut = st.tuples(
        st.integers(0, len(base)), st.integers(0, 40), st.sampled_from((*PIECES, "", "", "x"))
    )

    def apply(cuts):
        text = base
        for start, length, piece in cuts:
            start = min(start, len(text))
            text = text[:start] + piece + text[start + length :]
        return text

    return st.lists(cut, min_size=1, max_size=4).map(apply)


ANYTHING = st.one_of(
    st.text(max_size=200), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
)
SLOW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def assert_told(document, loaded):
    """Either something was loaded or a problem says why not; every place lies in the file."""
    assert document.failed == (loaded is None)
    for problem in document.problems:
        assert problem.message
        assert 0 <= problem.line <= len(document.lines) + 1
    for line in report_text(document.problems, file="x").split("\n"):
        assert line.isprintable()


@given(ANYTHING)
@example('"\\UFFFFFFFF"')
@example("%YAML 1.1\n---\na: 1")
@example("a: " + "[" * 100)
@example("? [a, b]\n: 1\n")
@settings(max_examples=300, deadline=None)
def test_no_text_makes_the_reader_crash(text):
    document = read_text(text, file="x", prefix="C")
    assert document.root is not None or document.failed


@given(mangled(SITE))
@SLOW
def test_no_mangled_site_makes_the_checks_crash(text):
    document, site = site_from_text(text, path=HERE / "x.yaml")
    assert_told(document, site)


@given(mangled(PROFILE))
@SLOW
def test_no_mangled_profile_makes_the_checks_crash(text):
    document, profile = profile_from_text(text, file="x")
    assert_told(document, profile)


def test_words_stay_words_and_numbers_stay_exact():
    text = (
        "a: on\nb: NO\nc: 12:30:00\nd: 0.1\ne: 0x1F\nf: 007\ng: true\nh:\ni: 8E1\nj: '5'\nk: 1e-3"
    )
    document = read_text(text, file="x", prefix="C")
    assert document.problems == []
    assert document.root is not None
    assert document.root.data() == {
        "a": "on",
        "b": "NO",
        "c": "12:30:00",
        "d": Decimal("0.1"),
        "e": 31,
        "f": "007",
        "g": True,
        "h": None,
        "i": "8E1",
        "j": "5",
        "k": Decimal("0.001"),
    }


def test_places_count_from_one():
    document = read_text("a:\n  b: {c: 250 kVA}\n", file="x", prefix="C")
    assert document.root is not None
    node = document.root.get("a", "b", "c")
    assert node is not None
    assert (node.line, node.column, node.width) == (2, 10, 7)


def test_lines_end_where_the_parser_says_they_end():
    document = read_text("a: 1\r\nb: 2\rc: [\n", file="x", prefix="C")
    assert [(p.code, p.line) for p in document.problems] == [("C002", 4)]


def test_nesting_has_an_end():
    deep = "[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1)
    document = read_text("a: " + deep, file="x", prefix="C")
    assert [p.code for p in document.problems] == ["C002"]


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a" * (FILE_BYTES_MAX + 1))
    assert [p.code for p in read_file(path, prefix="C").problems] == ["C001"]


def test_bytes_that_are_no_text_are_told_by_line(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    assert [(p.code, p.line) for p in read_file(path, prefix="C").problems] == [("C002", 2)]


def test_a_folder_is_no_file(tmp_path):
    assert [p.code for p in read_file(tmp_path, prefix="C").problems] == ["C001"]


def test_control_characters_never_reach_the_terminal():
    document = read_text('a: "\\e[2J"\na: 1\n', file="x", prefix="C")
    document.add(99, "said \x1b[2J", document.root)
    assert all("\x1b" not in p.message + p.source_line + p.help for p in document.problems)


@pytest.mark.parametrize(
    ("word", "words", "meant"),
    [
        ("KVA", ["kVA", "kW"], "kVA"),
        ("mastr", ["master", "station"], "master"),
        ("zzz", ["a"], None),
    ],
)
def test_the_nearest_word(word, words, meant):
    assert nearest(word, words) == meant


def test_a_problem_is_a_value():
    one = Problem(code="C001", severity="error", message="m", file="f")
    assert one == Problem(code="C001", severity="error", message="m", file="f")
