"""Segment headers: everything needed to go on, and nothing that contradicts itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import checkpoint, record, segment
from ledger.log.keys import Signer
from ledger.log.record import Damage, Kind
from ledger.log.segment import Header


def headers(directory: Path) -> list[Header]:
    return [segment.read_header(path) for path in segment.segments(directory)]


def test_headers_continue_one_another(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*[[bytes([n]) * 300] * 5 for n in range(20)], segment_bytes=8_000)
    found = headers(directory)
    assert len(found) > 3
    assert [h.segment_seq for h in found] == list(range(len(found)))
    assert found[0].size == 0
    assert found[0].checkpoint == b""
    for header in found[1:]:
        point = checkpoint.open_checkpoint(header.checkpoint, signer.key).checkpoint
        assert (point.size, point.root) == (header.size, header.tree().root())
        assert header.vkey == signer.vkey


def test_a_header_survives_its_own_encoding(make: Callable[..., Path]) -> None:
    directory = make(*[[b"x" * 300] * 5 for _ in range(20)], segment_bytes=8_000)
    for header in headers(directory):
        data = header.encode()
        assert segment.parse_start(data, header.size) == (header, len(data))


def test_names_give_the_first_index(make: Callable[..., Path]) -> None:
    directory = make(*[[b"x" * 300] * 5 for _ in range(20)], segment_bytes=8_000)
    (directory / segment.FOLDER / "notes.txt").write_text("not a segment")
    (directory / segment.FOLDER / "00000000000000000099.new").write_text("not one yet")
    paths = segment.segments(directory)
    assert [segment.first_index(p) for p in paths] == [h.size for h in headers(directory)]
    assert paths == [segment.segment_path(directory, segment.first_index(p)) for p in paths]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"format": 2}, "format version 2"),
        ({"size": 5}, "contradicts"),
        ({"frontier": ["00" * 32]}, "contradicts"),
        ({"more": 1}, "cannot be read"),
        ({"vkey": "nonsense"}, "cannot be read"),
        ({"checkpoint": "x"}, "carries a checkpoint"),
    ],
)
def test_odd_headers_are_refused(
    make: Callable[..., Path], change: dict[str, object], what: str
) -> None:
    import msgspec

    path = segment.segments(make())[0]
    first = record.read(path.read_bytes(), 0, 0)
    assert first is not None
    fields = {**msgspec.json.decode(first.payload), **change}
    data = record.encode(Kind.HEADER, 0, msgspec.json.encode(fields, order="sorted"))
    with pytest.raises(Damage, match=what):
        segment.parse_start(data, 0)


@given(st.binary(max_size=200))
def test_any_payload_is_damage(data: bytes) -> None:
    with pytest.raises(Damage):
        segment.parse_start(record.encode(Kind.HEADER, 0, data), 0)


def test_a_short_write_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment.os, "pwrite", lambda _fd, data, _offset: len(data) - 1)
    with pytest.raises(OSError, match="short write: 2 of 3"):
        segment.write_all(0, b"abc", 0)
