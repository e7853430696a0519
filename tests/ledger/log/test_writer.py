"""The writer: order, durability, limits, failure for good."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.log import checkpoint, note, reader, reserve, segment
from ledger.log import writer as writing
from ledger.log.head import HeadSigner
from ledger.log.keys import Signer
from ledger.log.merkle import Frontier
from ledger.log.verify import verify
from ledger.log.writer import LedgerBusy, LedgerFailed, LedgerFull, LedgerWriter


def opened(directory: Path, signer: Signer, **more: object) -> LedgerWriter:
    return LedgerWriter.open(directory, signer=signer, origin=signer.name, **more)  # type: ignore[arg-type]


def root_of(leaves: list[bytes]) -> bytes:
    tree = Frontier()
    tree.extend(leaves)
    return tree.root()


async def test_indexes_root_and_checkpoint(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer)
    assert (writer.size(), writer.root()) == (0, Frontier().root())
    assert checkpoint.open_checkpoint(writer.checkpoint(), signer.key).checkpoint.size == 0
    assert await writer.append(b"a") == 0
    assert await writer.append_many([b"b", b"c"]) == [1, 2]
    assert await writer.append_many([]) == []
    assert (writer.size(), writer.root()) == (3, root_of([b"a", b"b", b"c"]))
    point = checkpoint.open_checkpoint(writer.checkpoint(), signer.key).checkpoint
    assert (point.origin, point.size, point.root) == (signer.name, 3, writer.root())
    await writer.close()
    assert verify(tmp_path, [signer.vkey]).ok


async def test_many_producers_each_get_their_own_index(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer, segment_bytes=30_000)
    got: dict[int, bytes] = {}

    async def produce(name: int) -> None:
        for n in range(20):
            leaf = b"%d/%d" % (name, n)
            got[await writer.append(leaf)] = leaf

    await asyncio.gather(*(produce(name) for name in range(50)))
    await writer.close()
    assert dict(reader.entries(tmp_path)) == got
    assert sorted(got) == list(range(1000))
    order = [leaf for _, leaf in sorted(got.items()) if leaf.startswith(b"7/")]
    assert order == [b"7/%d" % n for n in range(20)]
    report = verify(tmp_path, [signer.vkey])
    assert report.ok
    assert report.closed
    assert report.checkpoint_count < 1000, "waiting producers share a sync"


async def test_the_acknowledgement_comes_after_the_sync(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_write, real_sync = os.pwrite, os.fdatasync
    writer = opened(tmp_path, signer)

    def pwrite(*arguments: object) -> int:
        events.append("write")
        return real_write(*arguments)  # type: ignore[arg-type]

    def fdatasync(descriptor: int) -> None:
        real_sync(descriptor)
        events.append("sync")

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    await writer.append(b"a")
    events.append("acknowledged")
    await writer.append_many([b"b", b"c"])
    events.append("acknowledged")
    monkeypatch.undo()
    await writer.close()
    assert events == ["write", "sync", "acknowledged"] * 2


def test_loops_one_after_another_and_side_by_side(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer)
    assert asyncio.run(asyncio.wait_for(writer.append(b"a"), 60)) == 0
    assert asyncio.run(asyncio.wait_for(writer.append(b"b"), 60)) == 1
    got: list[list[int]] = []

    async def produce() -> None:
        got.append([await writer.append(b"x") for _ in range(20)])

    threads = [threading.Thread(target=asyncio.run, args=(produce(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(index for one in got for index in one) == list(range(2, 62))
    assert all(sorted(one) == one for one in got)
    asyncio.run(writer.close())
    assert verify(tmp_path, [signer.vkey]).ok


async def test_nobody_is_taken_in_who_could_not_be_answered(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = opened(tmp_path, signer)

    def none_left(*_arguments: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "eventfd", none_left)
        with pytest.raises(LedgerFull, match="Too many open files"):
            await writer.append(b"a")
    assert await writer.append(b"b") == 0
    await writer.close()


async def test_only_one_writer(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer)
    with pytest.raises(LedgerBusy):
        opened(tmp_path, signer)
    await writer.close()
    await opened(tmp_path, signer).close()


async def test_reopening_goes_on_where_it_stopped(tmp_path: Path, signer: Signer) -> None:
    leaves = []
    for n in range(12):
        writer = opened(tmp_path, signer, segment_bytes=2_500)
        assert writer.size() == len(leaves)
        assert writer.root() == root_of(leaves)
        for _ in range(n):
            leaves.append(b"%d" % n * 30)
            assert await writer.append(leaves[-1]) == len(leaves) - 1
        await writer.close()
    assert [leaf for _, leaf in reader.entries(tmp_path)] == leaves
    assert verify(tmp_path, [signer.vkey]).ok


async def test_opening_and_closing_changes_no_byte(
    make: Callable[..., Path], tmp_path: Path, signer: Signer
) -> None:
    directory = await asyncio.to_thread(make, [b"a", b"b"])
    before = segment.segments(directory)[0].read_bytes()
    await opened(directory, signer).close()
    assert segment.segments(directory)[0].read_bytes() == before


async def test_a_closed_ledger_takes_nothing_more(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer)
    await writer.close()
    await writer.close()
    with pytest.raises(LedgerFailed):
        await writer.append(b"x")


async def test_limits_of_entries_and_batches(tmp_path: Path, signer: Signer) -> None:
    writer = opened(tmp_path, signer)
    assert await writer.append(b"x" * 65_535) == 0
    with pytest.raises(ValueError, match="at most 65535"):
        await writer.append(b"x" * 65_536)
    with pytest.raises(ValueError, match="together"):
        await writer.append_many([b"x" * 65_535] * 200)
    await writer.close()


def test_the_key_must_carry_the_origins_name(tmp_path: Path, signer: Signer) -> None:
    with pytest.raises(ValueError, match="origin"):
        LedgerWriter.open(tmp_path, signer=signer, origin="other.example")


async def test_back_pressure_is_an_error_and_nothing_is_written(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "PENDING_COUNT_MAX", 10)
    gate, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        gate.wait(10)
        real(descriptor)

    writer = opened(tmp_path, signer)
    monkeypatch.setattr(os, "fdatasync", slow)
    first = asyncio.ensure_future(writer.append(b"first"))
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(0)
            with writer._lock:
                if not writer._waiting and not writer._idle:
                    break
    rest = [asyncio.ensure_future(writer.append(b"%d" % n)) for n in range(10)]
    await asyncio.sleep(0)
    with pytest.raises(LedgerFull, match="wait for the disk"):
        await writer.append(b"one too many")
    urgent = asyncio.ensure_future(writer.append(b"safe state", urgent=True))
    await asyncio.sleep(0)
    gate.set()
    assert await first == 0
    assert await asyncio.gather(*rest) == list(range(1, 11))
    assert await urgent == 11
    assert await writer.append(b"later") == 12
    await writer.close()


@pytest.mark.parametrize("call", ["fdatasync", "pwrite"])
async def test_the_first_error_of_the_disk_is_final(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    writer = opened(tmp_path, signer)
    await writer.append(b"kept")

    def fail(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    waiting = [asyncio.ensure_future(writer.append(b"%d" % n)) for n in range(5)]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(o) for o in outcomes] == [LedgerFailed] * 5
    monkeypatch.undo()
    with pytest.raises(LedgerFailed):
        await writer.append(b"after")
    with pytest.raises(LedgerFailed):
        await writer.close()
    assert writer.size() == 1
    again = opened(tmp_path, signer)
    assert again.size() >= 1
    await again.close()
    assert next(reader.entries(tmp_path)) == (0, b"kept")


async def refused(writer: LedgerWriter) -> bool:
    try:
        await writer.append(b"x" * 1000)
    except LedgerFull as error:
        return "No space" in str(error)
    return False


async def test_a_full_disk_refuses_before_anything_is_written(
    tmp_path: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "EXTENT_BYTES", 4096)
    real, full = os.posix_fallocate, False

    def allocate(descriptor: int, offset: int, length: int) -> None:
        if full and (tmp_path / reserve.RESERVE).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    writer = opened(tmp_path, signer)
    index = await writer.append(b"x" * 1000)
    full = True
    outcomes = [await refused(writer) for _ in range(10)]
    index += outcomes.count(False)
    assert 0 < outcomes.count(False) < 10
    assert sorted(outcomes) == outcomes, "once refused, refused until there is room"
    assert writer.size() == index + 1
    assert await writer.append(b"s" * 1000, urgent=True) == index + 1
    full = False
    assert await writer.append(b"x" * 1000) == index + 2
    await writer.close()
    assert verify(tmp_path, [signer.vkey]).ok


async def test_a_clock_that_goes_back_stops_the_ledger(tmp_path: Path, signer: Signer) -> None:
    times = iter([5, 9, 8])
    writer = opened(tmp_path, signer, mono_us=lambda: next(times))
    await writer.append(b"a")
    await writer.append(b"b")
    with pytest.raises(LedgerFailed, match="clock went back by 1"):
        await writer.append(b"c")
    assert writer.size() == 2
    with pytest.raises(LedgerFailed):
        await writer.close()


async def test_a_caller_that_gives_up_does_not_stop_the_others(
    tmp_path: Path, signer: Signer
) -> None:
    writer = opened(tmp_path, signer)
    tasks = [asyncio.ensure_future(writer.append(b"%d" % n)) for n in range(20)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(o, int) for o in outcomes) == 19
    await writer.close()
    assert verify(tmp_path, [signer.vkey]).ok


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12), segment_bytes=st.integers(600, 3000)
)
def test_batches_and_segments_do_not_change_the_root(
    tmp_path_factory: pytest.TempPathFactory, signer: Signer, sizes: list[int], segment_bytes: int
) -> None:
    leaves = [b"%d" % n * 20 for n in range(sum(sizes))]
    directory = tmp_path_factory.mktemp("split")

    async def write() -> bytes:
        writer = opened(directory, signer, segment_bytes=segment_bytes)
        rest = iter(leaves)
        for size in sizes:
            await writer.append_many([next(rest) for _ in range(size)])
        found = writer.root()
        await writer.close()
        return found

    assert asyncio.run(write()) == root_of(leaves)
    assert [leaf for _, leaf in reader.entries(directory)] == leaves
    report = verify(directory, [signer.vkey])
    assert report.ok
    assert note.parse(report.checkpoint).signatures[0].name == signer.name


class Broken:
    """A key whose token was pulled out: not an error of the disk, and none the writer foresees."""

    def sign(self, data: bytes, /) -> bytes:
        raise LookupError("no token")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_whatever_ends_the_writer_nobody_waits_for_ever(
    tmp_path: Path, signer: Signer
) -> None:
    writer = opened(tmp_path, signer)
    await writer.append(b"kept")
    writer._heads = HeadSigner(signer.name, [Signer(key=signer.key, private=Broken())])
    waiting = [asyncio.ensure_future(writer.append(b"%d" % n)) for n in range(3)]
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)
    assert [type(o) for o in outcomes] == [LedgerFailed] * 3
    with pytest.raises(LedgerFailed):
        await writer.append(b"after")
    with pytest.raises(LedgerFailed):
        await writer.close()
    again = opened(tmp_path, signer)
    assert again.size() == 1
    await again.close()
