"""Splitting whole amounts: every unit goes somewhere, the same way on every node."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def share_evenly(amount: int, count: int) -> list[int]:
    """Split an amount into equal parts; the units left over go one each to the first parts."""
    if count == 0:
        return []
    part, rest = divmod(amount, count)
    return [part + (index < rest) for index in range(count)]


def matrix_with_margins(*, rows: Sequence[int], columns: Sequence[int]) -> list[list[int]]:
    """Spread rows over columns pro rata in whole units with both margins kept exactly.

    Cell (i, j) is within one unit of rows[i]·columns[j]/total. Rounding each row by its largest
    remainders alone would leave the columns a few units off; so the units a row has left go to
    the columns that still lack most, larger remainders first among equals.
    """
    total = sum(rows)
    assert total == sum(columns), "what is sent is what is received"
    if total == 0:
        return [[0] * len(columns) for _ in rows]
    matrix = [[row * column // total for column in columns] for row in rows]
    lacking = [
        column - sum(cells[index] for cells in matrix) for index, column in enumerate(columns)
    ]
    for row, cells in zip(rows, matrix, strict=True):
        left = row - sum(cells)
        order = sorted(
            range(len(columns)),
            key=lambda index, row=row: (-lacking[index], -(row * columns[index] % total), index),  # type: ignore[misc]
        )
        for index in order[:left]:
            cells[index] += 1
            lacking[index] -= 1
    assert not any(lacking), "columns kept"
    return matrix
