"""Records: what is written is read, and no changed byte passes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.log import record
from ledger.log.record import Damage, Kind


@given(
    kind=st.sampled_from(Kind),
    index=st.integers(0, (1 << 64) - 1),
    payload=st.binary(max_size=300),
    before=st.binary(max_size=20),
)
def test_decode_of_encode(kind: Kind, index: int, payload: bytes, before: bytes) -> None:
    data = before + record.encode(kind, index, payload)
    found = record.read(data, len(before), index, index)
    assert found is not None
    assert (found.kind, found.index, found.payload) == (kind, index, payload)
    assert (found.offset, found.end_offset) == (len(before), len(data))


@given(payload=st.binary(max_size=60), position=st.integers(0, 76), change=st.integers(1, 255))
def test_every_changed_byte_is_found(payload: bytes, position: int, change: int) -> None:
    data = bytearray(record.encode(Kind.LEAF, 7, payload))
    data[position % len(data)] ^= change
    with pytest.raises(Damage) as caught:
        record.read(bytes(data), 0, 7)
    assert caught.value.offset == 0


@given(data=st.binary(max_size=200))
def test_any_bytes_are_damage_or_a_record(data: bytes) -> None:
    try:
        found = list(record.walk(data, 0, 0))
    except Damage:
        return
    end = found[-1].end_offset if found else 0
    assert not data[end : end + record.FRAME_BYTES].strip(b"\0")


def test_a_record_in_the_wrong_place_is_damage() -> None:
    data = record.encode(Kind.LEAF, 8, b"x")
    with pytest.raises(Damage, match="index 8 where 7"):
        record.read(data, 0, 7)
    point = record.encode(Kind.CHECKPOINT, 3, b"x")
    assert record.read(point, 0, 7, 3) is not None
    with pytest.raises(Damage, match="index 3 where 4"):
        record.read(point, 0, 7, 4)


def test_the_written_part_ends_at_zeros() -> None:
    data = record.encode(Kind.LEAF, 0, b"x") + bytes(100)
    assert [r.index for r in record.walk(data, 0, 0)] == [0]
    assert record.all_zero(data, len(data) - 100) is None
    spoiled = data[:-1] + b"\x01"
    assert record.all_zero(spoiled, len(data) - 100) == len(data) - 1


def test_an_absurd_length_is_damage_and_costs_nothing() -> None:
    data = record.FRAME.pack(0, 0xFFFFFFFF, 0, Kind.LEAF)
    with pytest.raises(Damage, match="leads out of the file") as caught:
        record.read(data, 0, 0)
    assert caught.value.index == 0
