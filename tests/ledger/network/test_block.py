from hypothesis import given
from hypothesis import strategies as st

from ledger.log.canonical import decode, encode
from ledger.network.block import (
    BLOCK_BYTES_MAX,
    Block,
    block_hash,
    fill,
    genesis_hash,
    read_block,
    transactions_root,
)

PREV = genesis_hash("m")


def block(**changes):
    values = {"height": 1, "utc_ms": 1000, "prev": PREV, "messages": ({"a": 1}, {"b": 2})}
    return Block(**{**values, **changes})


def read(raw):
    return read_block(raw, height=1, prev=PREV, utc_ms_min=500)


def test_a_block_is_read_back():
    assert read(block().encode()) == block()


def test_whatever_is_no_proper_block_executes_as_nothing():
    empty = Block(height=1, utc_ms=500, prev=PREV, messages=())
    good = decode(block().encode())
    rubbish = [
        b"",
        b"\xff",
        b"{}",
        b" " + block().encode(),
        block(height=2).encode(),
        block(prev="00").encode(),
        block(utc_ms=499).encode(),
        encode({**good, "messages": ["text"]}),
        encode({**good, "messages": None}),
        encode({**good, "utc_ms": True}),
        encode({**good, "more": 1}),
        b"x" * (BLOCK_BYTES_MAX + 1),
    ]
    for raw in rubbish:
        assert read(raw) == empty


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw):
    assert read(raw).messages == ()


def test_the_root_tells_orders_apart():
    one, two = block(), block(messages=({"b": 2}, {"a": 1}))
    assert transactions_root(one) != transactions_root(two)
    assert block_hash(one.encode()) != block_hash(two.encode())


def test_a_block_takes_what_fits_in_order_and_drops_what_is_no_message():
    messages = [encode({"n": n, "pad": "x" * 20_000}) for n in range(5)]
    taken_in, taken = fill([messages[0], b"rubbish", *messages[1:]])
    assert [m["n"] for m in taken_in] == [0, 1]
    assert taken == [messages[0], b"rubbish", messages[1]]
    raw = Block(height=10**9, utc_ms=10**13, prev=PREV, messages=tuple(taken_in)).encode()
    assert len(raw) <= BLOCK_BYTES_MAX


@given(st.lists(st.integers(0, 3_000), max_size=60))
def test_a_full_block_always_fits_a_ledger_entry(sizes):
    pending = [encode({"n": n, "pad": "é" * size}) for n, size in enumerate(sizes)]
    messages, taken = fill(pending)
    assert taken == pending[: len(taken)]
    entry = {"kind": "net.block", "height": 2**53 - 1, "sha256": "f" * 64}
    whole = Block(height=2**53 - 1, utc_ms=2**53 - 1, prev=PREV, messages=tuple(messages))
    assert len(encode({**entry, "block": decode(whole.encode())})) <= 65_535
