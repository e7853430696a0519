"""Reading: from any index, across segments, beside a writer at work."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.log import checkpoint, reader, segment
from ledger.log.keys import Signer
from ledger.log.segment import LedgerCorrupt
from ledger.log.writer import LedgerWriter

BATCHES = [[b"%d-%d" % (n, k) * 50 for k in range(n % 4 + 1)] for n in range(30)]
LEAVES = [leaf for batch in BATCHES for leaf in batch]


@pytest.mark.parametrize("start", [0, 1, 5, 40, len(LEAVES) - 1, len(LEAVES), 10_000])
def test_entries_from_any_index(make: Callable[..., Path], start: int) -> None:
    directory = make(*BATCHES, segment_bytes=3_000)
    assert len(segment.segments(directory)) > 3
    assert list(reader.entries(directory, start)) == list(enumerate(LEAVES))[start:]


def test_from_a_place_on_nothing_before_it_is_read(make: Callable[..., Path]) -> None:
    directory = make(*BATCHES, segment_bytes=3_000)
    whole = list(reader.batches(directory))
    for known, batch in enumerate(whole):
        place = reader.place_of(directory, batch)
        data = bytearray(place.segment.read_bytes())
        spoiled = bytes(place.offset) + bytes(data[place.offset :])
        place.segment.write_bytes(spoiled)
        assert list(reader.batches(directory, batch.size, place)) == whole[known + 1 :]
        place.segment.write_bytes(data)


def test_damage_after_a_place_is_named_where_it_stands(make: Callable[..., Path]) -> None:
    directory = make(*BATCHES, segment_bytes=3_000)
    first = next(iter(reader.batches(directory)))
    place = reader.place_of(directory, first)
    data = bytearray(place.segment.read_bytes())
    data[place.offset + 20] ^= 1
    place.segment.write_bytes(data)
    with pytest.raises(LedgerCorrupt, match=rf"{place.segment.name} offset {place.offset}:"):
        list(reader.batches(directory, first.size, place))


@pytest.mark.parametrize("gap", [1, reader.BLOCK_BYTES, reader.ROOM_BYTES - 2 * reader.BLOCK_BYTES])
@pytest.mark.parametrize("room", [0, 1, reader.BLOCK_BYTES, 5 << 20])
def test_room_made_for_later_is_not_kept_and_zeros_in_between_are(gap: int, room: int) -> None:
    data = b"x" * 100_000 + bytes(gap) + b"y" * 70_000
    file = io.BytesIO(data + bytes(room))
    found = reader.written(file)
    assert found.rstrip(b"\0") == data
    assert len(found) < len(data) + reader.BLOCK_BYTES
    assert file.tell() <= len(data) + reader.ROOM_BYTES + 2 * reader.BLOCK_BYTES


async def test_beside_a_writer_only_what_is_durable(tmp_path: Path, signer: Signer) -> None:
    writer = LedgerWriter.open(tmp_path, signer=signer, origin=signer.name, segment_bytes=20_000)
    for n in range(50):
        await writer.append(b"%d" % n * 100)
        if n % 7 == 0:
            found = list(reader.entries(tmp_path))
            assert len(found) == writer.size() == n + 1
            assert reader.last_checkpoint(tmp_path) == writer.checkpoint()
    await writer.close()


async def test_a_reader_never_runs_ahead_of_the_acknowledgements_it_could_have_had(
    tmp_path: Path, signer: Signer
) -> None:
    """While a crowd appends, each snapshot is a prefix that a signed checkpoint covers."""
    writer = LedgerWriter.open(tmp_path, signer=signer, origin=signer.name)
    stop = asyncio.Event()

    async def produce(name: int) -> None:
        for n in range(40):
            await writer.append(b"%d-%d" % (name, n))

    async def look() -> int:
        looks = 0
        while not stop.is_set():
            before = writer.size()
            found = await asyncio.to_thread(lambda: list(reader.batches(tmp_path)))
            size = found[-1].size if found else 0
            assert size >= before
            assert [b.first_index for b in found] == [0, *[b.size for b in found][:-1]][
                : len(found)
            ]
            for batch in found[-1:]:
                assert checkpoint.parse(batch.checkpoint).checkpoint.size == size
            looks += 1
        return looks

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        async with asyncio.TaskGroup() as producers:
            for name in range(20):
                producers.create_task(produce(name))
        stop.set()
    assert looking.result() > 0
    await writer.close()


def test_an_empty_ledger_and_none_at_all(make: Callable[..., Path], tmp_path: Path) -> None:
    assert list(reader.entries(make())) == []
    assert reader.last_checkpoint(make(name="other")) == b""
    assert list(reader.entries(tmp_path / "nothing")) == []
    assert reader.last_checkpoint(tmp_path / "nothing") == b""


def test_damage_in_an_older_segment_is_told(make: Callable[..., Path]) -> None:
    directory = make(*BATCHES, segment_bytes=3_000)
    path = segment.segments(directory)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LedgerCorrupt, match=r"\.seg offset \d+"):
        list(reader.entries(directory))


def test_the_last_checkpoint_stands_in_the_header_when_a_segment_is_new(
    make: Callable[..., Path],
) -> None:
    directory = make([b"a" * 2_000], [b"b" * 2_000], segment_bytes=2_100)
    paths = segment.segments(directory)
    assert len(paths) == 2
    before = segment.read_header(paths[1]).checkpoint
    paths[1].write_bytes(segment.read_header(paths[1]).encode())
    assert reader.last_checkpoint(directory) == before
