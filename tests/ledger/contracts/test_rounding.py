from hypothesis import given
from hypothesis import strategies as st

from ledger.contracts.rounding import matrix_with_margins, share_evenly


@given(st.integers(-(10**9), 10**9), st.integers(1, 30))
def test_even_shares_sum_and_differ_by_at_most_one(amount, count):
    parts = share_evenly(amount, count)
    assert sum(parts) == amount
    assert max(parts) - min(parts) <= 1
    assert parts == sorted(parts, reverse=True)


@given(st.data())
def test_matrix_keeps_both_margins_and_stays_within_one(data):
    rows = data.draw(st.lists(st.integers(0, 2000), min_size=1, max_size=7))
    cuts = sorted(data.draw(st.lists(st.integers(0, sum(rows)), max_size=6)))
    columns = [b - a for a, b in zip([0, *cuts], [*cuts, sum(rows)], strict=True)]
    matrix = matrix_with_margins(rows=rows, columns=columns)
    total = sum(rows)
    assert [sum(cells) for cells in matrix] == rows
    assert [sum(column) for column in zip(*matrix, strict=True)] == columns
    for row, cells in zip(rows, matrix, strict=True):
        for column, cell in zip(columns, cells, strict=True):
            assert cell >= 0
            assert abs(cell * total - row * column) <= total
