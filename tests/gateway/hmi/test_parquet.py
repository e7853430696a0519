import gzip
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hmi import parquet
from gateway.hmi.parquet import Column, write

COLUMNS = (Column(name="n"), Column(name="at", kind="instant"), Column(name="word", kind="text"))


class Compact:
    """A reader of the thrift compact protocol that knows nothing of Parquet."""

    def __init__(self, data):
        self.data = io.BytesIO(data)

    def varint(self):
        number = shift = 0
        while True:
            (byte,) = self.data.read(1)
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def value(self, kind):
        if kind in {5, 6}:
            raw = self.varint()
            return raw >> 1 ^ -(raw & 1)
        if kind == 8:
            return self.data.read(self.varint())
        if kind == 9:
            (head,) = self.data.read(1)
            size = self.varint() if head >> 4 == 15 else head >> 4
            return [self.value(head & 15) for _ in range(size)]
        assert kind == 12
        fields, number = {}, 0
        while (head := self.data.read(1)[0]) != 0:
            number += head >> 4
            fields[number] = self.value(head & 15)
        return fields


def read(data):
    """Read a file as the format's definition says: footer, row groups, pages."""
    assert data[:4] == data[-4:] == b"PAR1"
    (size,) = struct.unpack("<I", data[-8:-4])
    footer = Compact(data[-8 - size : -8]).value(12)
    rows = []
    for group in footer[4]:
        columns = []
        for chunk in group[1]:
            meta = chunk[3]
            stream = Compact(data[meta[9] :])
            header = stream.value(12)
            page = gzip.decompress(stream.data.read(header[3]))
            assert len(page) == header[2]
            (levels,) = struct.unpack("<I", page[:4])
            run = Compact(page[4 : 4 + levels])
            assert run.varint() & 1
            bits = run.data.read()
            values = io.BytesIO(page[4 + levels :])
            cells = []
            for place in range(header[5][1]):
                if not bits[place // 8] >> place % 8 & 1:
                    cells.append(None)
                elif meta[1] == 2:
                    cells.append(struct.unpack("<q", values.read(8))[0])
                else:
                    cells.append(values.read(struct.unpack("<I", values.read(4))[0]).decode())
            assert values.read() == b""
            columns.append(cells)
        rows += list(zip(*columns, strict=True))
    assert footer[3] == len(rows)
    return [e[4].decode() for e in footer[2][1:]], rows


cells = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.integers(0, 2**60),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)


@given(st.lists(cells, max_size=60))
def test_rows_come_back_as_they_went(rows):
    names, found = read(write(COLUMNS, rows))
    assert names == ["n", "at", "word"]
    assert found == rows


def test_rows_are_grouped(monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS_MAX", 7)
    rows = [(k, k, str(k)) for k in range(40)]
    assert read(write(COLUMNS, rows))[1] == rows


def test_many_columns_need_the_long_form_of_a_list():
    columns = [Column(name=f"c{k}") for k in range(20)]
    assert read(write(columns, [tuple(range(20))])) == (
        [c.name for c in columns],
        [tuple(range(20))],
    )


def test_same_rows_give_same_bytes():
    assert write(COLUMNS, [(1, 2, "x")]) == write(COLUMNS, [(1, 2, "x")])


def test_cell_of_another_kind_is_a_mistake():
    with pytest.raises(TypeError, match="'x' in the number column n"):
        write(COLUMNS, [("x", 1, "y")])


def test_pyarrow_reads_it():
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    rows = [(1, 1_767_319_200_000_000, "é"), (None, None, None), (-5, 0, "")]
    table = pq.read_table(io.BytesIO(write(COLUMNS, rows)))
    assert table.column("n").to_pylist() == [1, None, -5]
    assert table.column("word").to_pylist() == ["é", None, ""]
    assert str(table.schema.field("at").type) == "timestamp[us, tz=UTC]"
