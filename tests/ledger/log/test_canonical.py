"""Canonical JSON: the same bytes as RFC 8785, and nothing outside its safe part."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import canonical
from ledger.log.canonical import CanonicalError

ascii_keys = st.text(st.characters(max_codepoint=127), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-canonical.INTEGER_MAX, canonical.INTEGER_MAX)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ascii_keys, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(ascii_keys, values, max_size=6)


@given(objects)
def test_same_bytes_as_rfc8785(obj: dict[str, object]) -> None:
    data = canonical.encode(obj)
    assert data == rfc8785.dumps(obj)
    assert canonical.decode(data) == obj


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        ({"a": 1.0}, "$.a"),
        ({"a": [1, {"b": 2.5}]}, "$.a[1].b"),
        ({"a": 1 << 53}, "$.a"),
        ({"a": -(1 << 53)}, "$.a"),
        ({"ä": 1}, "$"),
        ({"a": b"x"}, "$.a"),
        ({"a": "\ud800"}, "$.a"),
        ({"a": {1: 2}}, "$.a"),
    ],
)
def test_what_has_no_canonical_form_is_named(obj: dict[str, object], path: str) -> None:
    with pytest.raises(CanonicalError) as caught:
        canonical.encode(obj)
    assert caught.value.path == path


def test_largest_entry() -> None:
    room = canonical.LEAF_BYTES_MAX - len(b'{"a":""}')
    assert len(canonical.encode({"a": "x" * room})) == canonical.LEAF_BYTES_MAX
    with pytest.raises(CanonicalError, match="at most 65535"):
        canonical.encode({"a": "x" * (room + 1)})


def test_deep_nesting_is_refused_not_a_crash() -> None:
    deep: object = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(CanonicalError, match="too deeply"):
        canonical.encode({"a": deep})
    with pytest.raises(CanonicalError):
        canonical.decode(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"1", b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1.0}', b'{"a":1}\n', b'{"a":"\\u0041"}',
     b'{"a":1,"a":1}', b"\xff", b'{"a":9007199254740992}'],
)  # fmt: skip
def test_other_forms_are_refused(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        canonical.decode(data)


@given(st.binary(max_size=100))
def test_any_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        obj = canonical.decode(data)
    except CanonicalError:
        return
    assert json.loads(data) == obj


@given(objects, st.sampled_from([1.5, 1 << 53, -(1 << 53), 1 << 70]), st.integers(0, 9))
def test_a_number_that_may_not_stand_is_found_at_any_depth(
    obj: dict[str, object], number: float, depth: int
) -> None:
    value: object = number
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    bad = json.dumps({**obj, "z": value}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(CanonicalError):
        canonical.decode(bad.encode())
    with pytest.raises(CanonicalError):
        canonical.encode({**obj, "z": value})


@pytest.mark.parametrize("depth", [0, 5, 6, 7, 63, 64])
def test_nesting_counts_the_same_both_ways(depth: int) -> None:
    value: object = "é" if depth % 2 else 7
    for _ in range(depth):
        value = [value]
    if depth == 64:
        with pytest.raises(CanonicalError, match="too deeply"):
            canonical.encode({"a": value})
        with pytest.raises(CanonicalError, match="too deeply"):
            canonical.decode(b'{"a":' + b"[" * 64 + b"7" + b"]" * 64 + b"}")
    else:
        assert canonical.decode(canonical.encode({"a": value})) == {"a": value}


@given(objects)
def test_whatever_is_sound_also_passes_the_check_that_names_the_place(
    obj: dict[str, object],
) -> None:
    if canonical.sound(obj, 0):
        canonical.check(obj, "$", 0)
