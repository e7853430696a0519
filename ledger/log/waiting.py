"""Callers that wait for the disk: what they gave, and how they get their answer.

Answers are given in the caller's own event loop, all those of one loop together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple


class Waiting(NamedTuple):
    """Entries somebody waits for; a tuple, because one is made for every append."""

    leaves: Sequence[bytes]
    answer: asyncio.Future[int]
    loop: asyncio.AbstractEventLoop
    urgent: bool
    held_bytes: int


def settle(batch: Sequence[Waiting], index: int) -> None:
    """Tell the callers of a durable batch their indexes; the first entry got ``index``."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int]]] = {}
    for item in batch:
        by_loop.setdefault(item.loop, []).append((item.answer, index))
        index += len(item.leaves)
    for loop, answers in by_loop.items():
        with suppress(RuntimeError):  # the loop of a caller that has gone
            loop.call_soon_threadsafe(resolve, answers)


def resolve(answers: list[tuple[asyncio.Future[int], int]]) -> None:
    """Give each caller its index."""
    for answer, index in answers:
        if not answer.done():
            answer.set_result(index)


def answer_all(batch: Sequence[Waiting], error: Exception) -> None:
    """Tell callers that their entries are not in the ledger."""
    for item in batch:
        with suppress(RuntimeError):  # the loop of a caller that has gone
            item.loop.call_soon_threadsafe(refuse, item.answer, error)


def refuse(answer: asyncio.Future[int], error: Exception) -> None:
    """Fail one caller's wait."""
    if not answer.done():
        answer.set_exception(error)
