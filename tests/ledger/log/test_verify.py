"""Verification: clean ledgers pass, every change is found and placed."""

import asyncio
import fcntl
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ledger.log import record, segment
from ledger.log import verify as verification
from ledger.log.keys import Signer, create_key
from ledger.log.merkle import leaf_hash
from ledger.log.record import Kind
from ledger.log.verify import being_written, verify
from ledger.log.writer import LOCK, LedgerWriter

BATCHES = [[b"%d-%d" % (n, k) * 8 for k in range(n % 3 + 1)] for n in range(25)]
COUNT = sum(len(b) for b in BATCHES)


def refixed(data: bytes, offset: int, payload: bytes) -> bytes:
    """Replace a record's payload and repair its checksum, as a careful forger would."""
    _, length, index, kind = record.FRAME.unpack_from(data, offset)
    end = offset + record.FRAME_BYTES + length
    return data[:offset] + record.encode(Kind(kind), index, payload) + data[end:]


def places(path: Path) -> list[record.Record]:
    data = path.read_bytes()
    header, offset = segment.parse_start(data, segment.first_index(path))
    return list(record.walk(data, offset, header.size))


@pytest.mark.parametrize("segment_bytes", [64 << 20, 1_500])
def test_a_clean_ledger(make: Callable[..., Path], signer: Signer, segment_bytes: int) -> None:
    report = verify(make(*BATCHES, segment_bytes=segment_bytes), [signer.vkey])
    assert report.ok
    assert (report.size, report.good_size, report.closed) == (COUNT, COUNT, True)
    assert report.origin == signer.name


@pytest.mark.parametrize("close", [True, False])
def test_any_changed_byte_is_found_and_placed(
    make: Callable[..., Path], signer: Signer, close: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample; ``tests/fault/ledger_flip.py`` does every byte of 10,000 entries."""
    monkeypatch.setattr(segment, "EXTENT_BYTES", 4096)
    directory = make(*BATCHES, segment_bytes=1_500, close=close)
    rng = random.Random(3)
    for path in segment.segments(directory):
        clean = path.read_bytes()
        start = segment.first_index(path)
        by_offset = {r.offset: r for r in places(path)}
        used = max(r.end_offset for r in by_offset.values())
        for offset in [*range(0, used, 61), *rng.sample(range(len(clean)), 3)]:
            data = bytearray(clean)
            data[offset] ^= rng.randrange(1, 256)
            path.write_bytes(data)
            report = verify(directory, [signer.vkey])
            assert not report.ok
            fault = report.faults[0]
            hit = next((r for r in by_offset.values() if r.offset <= offset < r.end_offset), None)
            assert fault.segment == path.name
            if hit is not None and hit.kind is Kind.LEAF:
                assert fault.index == hit.index
            elif hit is not None:
                assert fault.offset is not None
                assert fault.offset <= offset < hit.end_offset + record.FRAME_BYTES
            assert report.good_size >= start or start == 0
            assert report.good_size <= COUNT
        path.write_bytes(clean)
    assert verify(directory, [signer.vkey]).ok


def test_a_forged_entry_with_a_repaired_checksum(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*BATCHES, segment_bytes=1_500)
    path = segment.segments(directory)[1]
    victim = next(r for r in places(path) if r.kind is Kind.LEAF)
    payload = b"forged".ljust(len(victim.payload))
    path.write_bytes(refixed(path.read_bytes(), victim.offset, payload))
    fault = verify(directory, [signer.vkey]).faults[0]
    assert fault.index is not None
    assert fault.last_index is not None
    assert fault.index <= victim.index <= fault.last_index
    assert "root is not the signed one" in fault.what


def test_a_forged_entry_signed_with_another_key(
    make: Callable[..., Path], signer: Signer, tmp_path: Path
) -> None:
    forger = create_key(tmp_path / "k", signer.name)
    directory = tmp_path / "forged"

    async def forge() -> None:
        writer = LedgerWriter.open(directory, signer=forger, origin=signer.name)
        await writer.append(b"forged")
        await writer.close()

    asyncio.run(forge())
    report = verify(directory, [signer.vkey])
    assert "not signed by the given key" in report.faults[0].what
    assert report.good_size == 0


def test_wrong_key_for_an_empty_ledger(make: Callable[..., Path], tmp_path: Path) -> None:
    other = create_key(tmp_path / "k", "gw.example/ledger")
    assert not verify(make(), [other.vkey]).ok


@pytest.mark.parametrize("gone", [0, 2, -1])
def test_a_missing_segment(make: Callable[..., Path], signer: Signer, gone: int) -> None:
    directory = make(*BATCHES, segment_bytes=1_500)
    segment.segments(directory)[gone].unlink()
    assert not verify(directory, [signer.vkey]).ok


def test_swapped_and_foreign_segments(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*BATCHES, segment_bytes=1_500)
    other = make(
        *[[b"?" * len(leaf) for leaf in b] for b in BATCHES], name="o", segment_bytes=1_500
    )
    path = segment.segments(directory)[2]
    shutil.copy(segment.segments(other)[2], path)
    fault = verify(directory, [signer.vkey]).faults[0]
    assert "does not continue" in fault.what
    assert fault.segment == path.name


def test_no_ledger(tmp_path: Path, signer: Signer) -> None:
    assert not verify(tmp_path, [signer.vkey]).ok
    assert not verify(tmp_path / "none", [signer.vkey]).ok


async def test_beside_a_writer(tmp_path: Path, signer: Signer) -> None:
    writer = LedgerWriter.open(tmp_path, signer=signer, origin=signer.name)
    await writer.append_many([b"a", b"b"])
    report = await asyncio.to_thread(verify, tmp_path, [signer.vkey])
    assert report.ok
    assert (report.size, report.live, report.closed) == (2, True, False)
    path = segment.segments(tmp_path)[0]
    data = path.read_bytes()
    half = record.encode(Kind.LEAF, 2, b"in flight")[:-3]
    end = places(path)[-1].end_offset
    path.write_bytes(data[:end] + half + data[end + len(half) :])
    assert (await asyncio.to_thread(verify, tmp_path, [signer.vkey])).ok
    await writer.close()


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the ledger's lock, as a writer does, or as anybody can."""
    with (directory / LOCK).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert being_written(directory)
        yield


def first_of(path: Path, kind: Kind) -> record.Record:
    return next(r for r in places(path) if r.kind is kind)


def forged_first_entry(path: Path) -> bytes:
    leaf = first_of(path, Kind.LEAF)
    return refixed(path.read_bytes(), leaf.offset, b"forged".ljust(len(leaf.payload)))


def flipped(path: Path, offset: int) -> bytes:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    return bytes(data)


def bad_signature(path: Path) -> bytes:
    point = first_of(path, Kind.CHECKPOINT)
    wrong = b"A" if point.payload[-20:-19] != b"A" else b"B"
    payload = point.payload[:-20] + wrong + point.payload[-19:]
    return refixed(path.read_bytes(), point.offset, payload)


def emptied_frame(path: Path, record_: record.Record) -> bytes:
    data = path.read_bytes()
    return data[: record_.offset] + record.ZERO_FRAME + data[record_.offset + 17 :]


def behind_the_end(path: Path, more: bytes) -> bytes:
    end, data = places(path)[-1].end_offset, path.read_bytes()
    return data[:end] + more + data[end + len(more) :]


def next_index(path: Path) -> int:
    return [r for r in places(path) if r.kind is Kind.LEAF][-1].index + 1


NO_TRACES_OF_A_WRITE: dict[str, Callable[[Path], bytes]] = {
    "forged first entry": forged_first_entry,
    "flipped first entry": lambda p: flipped(p, first_of(p, Kind.LEAF).end_offset - 1),
    "first frame emptied": lambda p: emptied_frame(p, first_of(p, Kind.LEAF)),
    "checkpoint's frame emptied": lambda p: emptied_frame(p, first_of(p, Kind.CHECKPOINT)),
    "last entry flipped": lambda p: flipped(
        p, [r for r in places(p) if r.kind is Kind.LEAF][-1].end_offset - 1
    ),
    "bad signature": bad_signature,
    "damaged header": lambda p: flipped(p, 40),
    "wrong index": lambda p: behind_the_end(p, record.encode(Kind.LEAF, next_index(p) + 5, b"x")),
    "second header": lambda p: behind_the_end(p, record.encode(Kind.HEADER, next_index(p), b"x")),
    "bytes behind a close": lambda p: behind_the_end(
        p, record.encode(Kind.CLOSE, next_index(p), b"") + b"more"
    ),
    "entries under a close": lambda p: behind_the_end(
        p,
        record.encode(Kind.LEAF, next_index(p), b"x")
        + record.encode(Kind.CLOSE, next_index(p) + 1, b""),
    ),
}


@pytest.mark.parametrize("segment_bytes", [64 << 20, 2_500])
@pytest.mark.parametrize("damage", NO_TRACES_OF_A_WRITE)
def test_a_held_lock_forgives_no_more_than_a_write_can_leave(
    make: Callable[..., Path], signer: Signer, damage: str, segment_bytes: int
) -> None:
    directory = make(*BATCHES, segment_bytes=segment_bytes, close=False)
    path = segment.segments(directory)[-1]
    assert sum(r.kind is Kind.CHECKPOINT for r in places(path)) > 2
    path.write_bytes(NO_TRACES_OF_A_WRITE[damage](path))
    alone = verify(directory, [signer.vkey])
    with held(directory):
        report = verify(directory, [signer.vkey])
    assert report.live
    assert report.faults == alone.faults
    assert not report.ok
    assert report.faults[0].segment == path.name


def test_a_foreign_last_segment_beside_a_writer(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*BATCHES, segment_bytes=1_500, close=False)
    other = make(
        *[[b"?" * len(leaf) for leaf in b] for b in BATCHES],
        name="o", segment_bytes=1_500, close=False,
    )  # fmt: skip
    path = segment.segments(directory)[-1]
    shutil.copy(segment.segments(other)[-1], path)
    with held(directory):
        report = verify(directory, [signer.vkey])
    assert "does not continue" in report.faults[0].what


async def test_a_forged_first_entry_beside_a_writer(tmp_path: Path, signer: Signer) -> None:
    writer = LedgerWriter.open(tmp_path, signer=signer, origin=signer.name)
    for batch in BATCHES:
        await writer.append_many(batch)
    path = segment.segments(tmp_path)[0]
    path.write_bytes(forged_first_entry(path))
    report = await asyncio.to_thread(verify, tmp_path, [signer.vkey])
    await writer.append(b"more")
    await writer.close()
    assert report.live
    assert "root is not the signed one" in report.faults[0].what
    assert report.good_size == 0


def test_what_a_write_leaves_behind_a_held_lock_is_no_fault(
    make: Callable[..., Path], signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut at every place of the last batch, and with its first pages not there yet."""
    monkeypatch.setattr(segment, "EXTENT_BYTES", 8192)
    directory = make(*BATCHES[:5], [b"z" * 700] * 3, close=False)
    path = segment.segments(directory)[0]
    whole = path.read_bytes()
    points = [r for r in places(path) if r.kind is Kind.CHECKPOINT]
    start, end = points[-2].end_offset, points[-1].end_offset
    with held(directory):
        for cut in range(start, end, 7):
            path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
            report = verify(directory, [signer.vkey])
            assert report.ok, report.faults
            assert report.good_size == points[-2].index + len(BATCHES[4])
            hole = start + 600
            path.write_bytes(
                whole[:start] + bytes(hole - start) + whole[hole:cut] + bytes(len(whole) - cut)
                if cut > hole
                else whole
            )
            assert verify(directory, [signer.vkey]).ok


def test_a_batch_that_is_whole_at_the_second_look(
    make: Callable[..., Path], signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read beside a write may miss its beginning and see its end."""
    directory = make(*BATCHES, close=False)
    path = segment.segments(directory)[0]
    whole = path.read_bytes()
    last = [r for r in places(path) if r.kind is Kind.CHECKPOINT][-2].end_offset
    looks = [whole[:last] + record.ZERO_FRAME + whole[last + 17 :], whole]
    monkeypatch.setattr(Path, "read_bytes", lambda _self: looks.pop(0))
    with held(directory):
        report = verify(directory, [signer.vkey])
    assert report.ok, report.faults
    assert (report.good_size, report.in_flight_count, looks) == (COUNT, 0, [])


@pytest.mark.parametrize("leaf_bytes", [20, 30_000])
async def test_again_and_again_beside_a_busy_writer(
    tmp_path: Path, signer: Signer, leaf_bytes: int
) -> None:
    writer = LedgerWriter.open(tmp_path, signer=signer, origin=signer.name, segment_bytes=1 << 20)
    ended = False

    async def write() -> None:
        while not ended:
            await writer.append_many([b"\xee" * leaf_bytes] * 30)

    task = asyncio.create_task(write())
    sizes = []
    for _ in range(25):
        report = await asyncio.to_thread(verify, tmp_path, [signer.vkey])
        assert report.ok, report.faults
        sizes.append(report.size)
    ended = True
    await task
    await writer.close()
    assert sorted(sizes) == sizes
    assert sizes[-1] > sizes[0]
    assert verify(tmp_path, [signer.vkey]).ok


def test_an_interrupted_write_is_told_as_such(make: Callable[..., Path], signer: Signer) -> None:
    directory = make(*BATCHES, close=False)
    path = segment.segments(directory)[0]
    data = path.read_bytes()
    last = [r for r in places(path) if r.kind is Kind.CHECKPOINT][-1]
    path.write_bytes(data[: last.offset] + bytes(len(data) - last.offset))
    report = verify(directory, [signer.vkey])
    assert "a write was interrupted" in report.faults[0].what
    assert report.good_size == COUNT - len(BATCHES[-1])


def test_segments_are_checked_in_parallel_with_the_same_outcome(
    make: Callable[..., Path], signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = make(*BATCHES, segment_bytes=1_500)
    alone = verify(directory, [signer.vkey])
    monkeypatch.setattr(verification, "PARALLEL_BYTES", 0)
    done: list[int] = []
    assert verify(directory, [signer.vkey], done.append) == alone
    assert sum(done) == alone.byte_count
    path = segment.segments(directory)[3]
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    report = verify(directory, [signer.vkey])
    assert report.faults[0].segment == path.name


def test_removed_bodies_still_verify_and_a_wrong_hash_does_not(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make([b"keep", b"remove me", b"keep too"])
    path = segment.segments(directory)[0]
    data = path.read_bytes()
    victim = places(path)[1]
    for body, ok in (
        (leaf_hash(b"remove me"), True),
        (leaf_hash(b"another"), False),
        (b"x", False),
    ):
        made = record.encode(Kind.REMOVED, 1, body)
        path.write_bytes(data[: victim.offset] + made + data[victim.end_offset :])
        report = verify(directory, [signer.vkey])
        assert report.ok is ok
    assert report.size <= 3


def test_a_run_can_go_on_where_another_was_interrupted(
    make: Callable[..., Path], signer: Signer
) -> None:
    from ledger.log.checkpoint import parse

    directory = make(*BATCHES, segment_bytes=1_500)
    seen: list[bytes] = []
    whole = verify(directory, [signer.vkey], reached=seen.append)
    assert len(seen) == whole.segment_count > 4
    middle = parse(seen[2]).checkpoint.size
    rest = verify(directory, [signer.vkey], verified_size=middle)
    assert rest.ok
    assert (rest.size, rest.segment_count) == (COUNT, whole.segment_count - 3)
    for number, found in ((1, False), (5, True)):
        path = segment.segments(directory)[number]
        clean = path.read_bytes()
        path.write_bytes(clean[:-40] + bytes([clean[-40] ^ 1]) + clean[-39:])
        assert verify(directory, [signer.vkey], verified_size=middle).ok is not found
        path.write_bytes(clean)
