"""Room on the disk: refused whole, the reserve for what is urgent, other errors as they are."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.log import reserve
from ledger.log.reserve import LedgerFull


def full(times: int, number: int = errno.ENOSPC) -> Callable[[], None]:
    left = iter(range(times))

    def work() -> None:
        if next(left, None) is not None:
            raise OSError(number, "no")

    return work


def test_what_is_not_urgent_leaves_the_reserve_alone(tmp_path: Path) -> None:
    reserve.keep(tmp_path)
    assert (tmp_path / reserve.RESERVE).stat().st_size == reserve.RESERVE_BYTES
    reserve.allocate(tmp_path, full(0), urgent=False)
    for number in reserve.NO_ROOM:
        with pytest.raises(LedgerFull, match="no room on disk"):
            reserve.allocate(tmp_path, full(1, number), urgent=False)
    assert (tmp_path / reserve.RESERVE).exists()


def test_what_is_urgent_takes_it_and_it_comes_back(tmp_path: Path) -> None:
    reserve.keep(tmp_path)
    reserve.allocate(tmp_path, full(1), urgent=True)
    assert not (tmp_path / reserve.RESERVE).exists()
    with pytest.raises(LedgerFull, match="reserve used"):
        reserve.allocate(tmp_path, full(2), urgent=True)
    reserve.keep(tmp_path)
    assert (tmp_path / reserve.RESERVE).exists()


@pytest.mark.parametrize("first", [0, 1])
def test_another_error_is_not_a_full_disk(tmp_path: Path, first: int) -> None:
    codes = iter([errno.ENOSPC] * first + [errno.EIO])

    def work() -> None:
        raise OSError(next(codes), "no")

    with pytest.raises(OSError, match="no") as raised:
        reserve.allocate(tmp_path, work, urgent=True)
    assert raised.value.errno == errno.EIO


def test_no_half_of_a_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    reserve.keep(tmp_path)
    assert not (tmp_path / reserve.RESERVE).exists()
