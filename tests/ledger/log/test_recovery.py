"""Start after every kind of stop: what was acknowledged stays, the torn rest goes, lies refuse."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.log import reader, record, segment, tiles
from ledger.log.keys import Signer
from ledger.log.merkle import Frontier
from ledger.log.record import Kind
from ledger.log.segment import LedgerCorrupt
from ledger.log.verify import verify
from ledger.log.writer import LedgerWriter

BATCHES = [[b"%d-%d" % (n, k) * 10 for k in range(3)] for n in range(6)]
LEAVES = [leaf for batch in BATCHES for leaf in batch]


def reopen(directory: Path, signer: Signer) -> list[bytes]:
    """Open for writing, append one entry, close; returns what is in the ledger then."""

    async def go() -> None:
        writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
        tree = Frontier()
        tree.extend([leaf for _, leaf in reader.entries(directory)])
        assert (writer.size(), writer.root()) == (tree.size, tree.root())
        await writer.append(b"after")
        await writer.close()

    asyncio.run(go())
    report = verify(directory, [signer.vkey])
    assert report.ok, report.faults
    assert report.closed
    return [leaf for _, leaf in reader.entries(directory)]


def cut_points(data: bytes) -> list[tuple[int, Kind]]:
    header, offset = segment.parse_start(data, 0)
    assert header.size == 0
    return [(r.offset, r.kind) for r in record.walk(data, offset, 0)]


def test_every_torn_tail_keeps_a_prefix_of_whole_entries(
    make: Callable[..., Path], signer: Signer
) -> None:
    """Cut the file at every byte of the last batch: as a power cut in mid write leaves it."""
    whole = segment.segments(make(*BATCHES, name="whole", close=False))[0].read_bytes()
    points = cut_points(whole)
    last = [offset for offset, kind in points if kind is Kind.CHECKPOINT][-2]
    first_of_last = next(offset for offset, _ in points if offset > last)
    end = points[-1][0] + 300
    for cut in range(first_of_last, end, 13):
        directory = make(*BATCHES, name=f"cut{cut}", close=False)
        path = segment.segments(directory)[0]
        path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
        found = reopen(directory, signer)
        assert found[-1] == b"after"
        kept = found[:-1]
        assert kept == LEAVES[: len(kept)]
        assert len(kept) >= len(LEAVES) - 3


def test_lost_sectors_inside_the_last_batch_cut_it_there(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*BATCHES[:5], [b"z" * 1500] * 3, close=False)
    path = segment.segments(directory)[0]
    data = bytearray(path.read_bytes())
    start = [o for o, k in cut_points(bytes(data)) if k is Kind.LEAF][-2]
    data[start + 200 : start + 712] = bytes(512)
    path.write_bytes(data)
    assert reopen(directory, signer) == [*LEAVES[:15], b"z" * 1500, b"after"]


@pytest.mark.parametrize("batch", range(5))
def test_damage_in_an_acknowledged_batch_is_never_cut_off(
    make: Callable[..., Path], signer: Signer, batch: int
) -> None:
    """A later batch proves that this one was durable; opening must refuse, not forget it."""
    directory = make(*BATCHES, close=False)
    path = segment.segments(directory)[0]
    clean = path.read_bytes()
    starts = [o for o, _ in cut_points(clean)]
    for start in starts[batch * 4 : batch * 4 + 4]:
        flipped, emptied = bytearray(clean), bytearray(clean)
        flipped[start + 20] ^= 1
        emptied[start : start + record.FRAME_BYTES] = record.ZERO_FRAME
        for data in (flipped, emptied):
            path.write_bytes(data)
            with pytest.raises(LedgerCorrupt, match=f"offset {start}: .* later batches follow"):
                LedgerWriter.open(directory, signer=signer, origin=signer.name)
            assert path.read_bytes() == bytes(data), "a refused start changes nothing"


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("emptied", [True, False])
def test_damage_in_a_batch_that_somebody_knows_is_never_cut_off(
    make: Callable[..., Path], signer: Signer, published: bool, emptied: bool
) -> None:
    """The last batch looks like an interrupted write; its published checkpoint says otherwise."""
    directory = make(*BATCHES, close=False)
    path = segment.segments(directory)[0]
    known: list[bytes] = []
    if published:
        tiles.materialise(directory)
    else:
        known.append(reader.last_checkpoint(directory))
    data = bytearray(path.read_bytes())
    first = [o for o, k in cut_points(bytes(data)) if k is Kind.LEAF][-3]
    if emptied:
        data[first : first + record.FRAME_BYTES] = record.ZERO_FRAME
    else:
        data[first + 20] ^= 1
    path.write_bytes(data)
    (directory / segment.FOLDER / "00000000000000000900.new").write_bytes(b"half")
    before = files(directory)
    place = f"{path.name} offset {first}"
    with pytest.raises(LedgerCorrupt, match=f"was rolled back, or damaged at {place}"):
        LedgerWriter.open(directory, signer=signer, origin=signer.name, known=iter(known))
    assert files(directory) == before, "a refused start changes nothing"


def test_segments_that_are_gone_are_not_begun_anew(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*BATCHES, close=False)
    tiles.materialise(directory)
    for path in [*segment.segments(directory), directory / "reserve"]:
        path.unlink()
    before = files(directory)
    with pytest.raises(LedgerCorrupt, match="size 18 is known, the ledger has 0"):
        LedgerWriter.open(directory, signer=signer, origin=signer.name)
    assert files(directory) == before, "a refused start makes nothing"


def test_a_fork_is_not_signed_before_it_is_refused(
    make: Callable[..., Path], signer: Signer
) -> None:
    other = make(*[[leaf.upper() + b"!" for leaf in b] for b in BATCHES], name="other")
    directory = make(*BATCHES, close=False)
    path = segment.segments(directory)[0]
    data = path.read_bytes()
    end = cut_points(data)[-1][0]
    path.write_bytes(data[:end] + bytes(len(data) - end))
    before = files(directory)
    known = [reader.last_checkpoint(other)]
    with pytest.raises(LedgerCorrupt, match="was forked"):
        LedgerWriter.open(directory, signer=signer, origin=signer.name, known=known)
    assert files(directory) == before, "a refused start changes nothing"


def test_a_known_batch_whose_checkpoint_is_lost_is_signed_again(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*BATCHES, close=False)
    tiles.materialise(directory)
    path = segment.segments(directory)[0]
    data = path.read_bytes()
    end = cut_points(data)[-1][0]
    path.write_bytes(data[:end] + bytes(len(data) - end))
    assert reopen(directory, signer) == [*LEAVES, b"after"]


def test_a_forged_checkpoint_inside_an_entry_does_not_block_recovery(
    make: Callable[..., Path], signer: Signer
) -> None:
    """An entry that carries a copy of an old signed checkpoint record is just an entry."""
    old = segment.segments(make(*BATCHES[:2], name="old", close=False))[0].read_bytes()
    offset = next(o for o, k in cut_points(old) if k is Kind.CHECKPOINT)
    copy = record.read(old, offset, 3, 0)
    assert copy is not None
    trap = old[copy.offset : copy.end_offset]
    directory = make(*BATCHES[:2], [b"x" * 40, b"before" + trap + b"behind", b"y"], close=False)
    path = segment.segments(directory)[0]
    data = bytearray(path.read_bytes())
    torn = [o for o, k in cut_points(bytes(data)) if k is Kind.LEAF][-3]
    data[torn + 20] ^= 1
    path.write_bytes(data)
    assert reopen(directory, signer) == [*LEAVES[:6], b"after"]


def test_a_missing_last_segment_is_noticed(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*[[b"x" * 900]] * 6, segment_bytes=2_500)
    paths = segment.segments(directory)
    assert len(paths) > 2
    paths[-1].unlink()
    with pytest.raises(LedgerCorrupt, match="segment after it is missing"):
        LedgerWriter.open(directory, signer=signer, origin=signer.name)


def test_a_stop_between_sealing_and_the_next_segment(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*[[b"x" * 900]] * 6, segment_bytes=2_500)
    last = segment.segments(directory)[-1]
    entries = len([1 for i, _ in reader.entries(directory) if i < segment.first_index(last)])
    header = segment.read_header(last)
    last.rename(last.with_suffix(".new"))
    last.with_suffix(".new").write_bytes(header.encode()[:20])
    assert len(reopen(directory, signer)) == entries + 1


def test_leftovers_of_interrupted_work_are_cleared(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*BATCHES, close=False)
    stray = directory / segment.FOLDER / "00000000000000000900.new"
    stray.write_bytes(b"half")
    reopen(directory, signer)
    assert not stray.exists()


def test_another_key_or_origin_is_refused(
    make: Callable[..., Path], signer: Signer, tmp_path: Path
) -> None:
    from ledger.log.keys import create_key

    directory = make(*BATCHES)
    foreign = create_key(tmp_path / "k", signer.name)
    with pytest.raises(LedgerCorrupt, match="signed by none"):
        LedgerWriter.open(directory, signer=foreign, origin=signer.name)
    other = create_key(tmp_path / "o", "other.example")
    with pytest.raises(LedgerCorrupt, match="origin"):
        LedgerWriter.open(directory, signer=other, origin=other.name)


def test_bytes_behind_the_close_record_are_refused(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*BATCHES)
    path = segment.segments(directory)[0]
    path.write_bytes(path.read_bytes() + bytes(50) + b"x")
    with pytest.raises(LedgerCorrupt, match="after the end record"):
        LedgerWriter.open(directory, signer=signer, origin=signer.name)
