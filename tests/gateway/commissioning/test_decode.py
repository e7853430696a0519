import struct

import pytest

from gateway.commissioning.decode import Encoding, Kind, decode, encodings, plausible

VOLTS = (231.2, 229.8, 230.5)


def block(values, fmt=">f"):
    words = []
    for value in values:
        raw = struct.pack(fmt, value)
        words += [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
    return words


def sdm630():
    currents = (1.82, 2.4, 0.9)
    return dict(enumerate(block(VOLTS + currents)))


def test_the_sdm630_voltage_block_names_both_survivors_and_no_third():
    found = plausible(sdm630(), 0, low=200, high=260, count=3)
    assert found.tried_count == 320
    right, decoy = found.survivors
    assert (right.encoding.offset, right.encoding.kind, right.encoding.order) == (
        0,
        "float32",
        "ABCD",
    )
    assert [round(v, 1) for v in right.values] == [231.2, 229.8, 230.5]
    assert (decoy.encoding.offset, decoy.encoding.kind, decoy.encoding.order) == (
        -1,
        "float32",
        "CDAB",
    )
    assert [round(v, 1) for v in decoy.values] == [231.0, 229.2, 230.8]
    assert decoy.guessed_offset
    assert not right.guessed_offset
    assert 0 < found.spread_ratio() < 0.003


def test_a_reading_from_the_display_decides_between_them():
    found = plausible(sdm630(), 0, low=200, high=260, count=3)
    (told,) = found.telling(231.2, 0.1)
    assert told.encoding.offset == 0


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("word_swap", [False, True])
@pytest.mark.parametrize("byte_swap", [False, True])
def test_decoding_reads_back_what_was_packed(kind, word_swap, byte_swap):
    fmt = {"uint16": ">H", "int16": ">h", "uint32": ">I", "int32": ">i", "float32": ">f",
           "uint64": ">Q", "int64": ">q", "float64": ">d"}[kind]  # fmt: skip
    value = -1234 if kind.startswith(("int", "float")) else 1234
    words = block([value], fmt)
    if word_swap:
        words.reverse()
    if byte_swap:
        words = [(w >> 8) | ((w & 0xFF) << 8) for w in words]
    encoding = Encoding(offset=0, kind=kind, word_swap=word_swap, byte_swap=byte_swap, scale=0.1)
    assert decode(words, encoding) == pytest.approx(value * 0.1)


def test_every_encoding_is_tried_once():
    tried = encodings()
    assert len(tried) == len(set(tried)) == 320
    assert {e.order for e in tried} == {"AB", "BA", "ABCD", "CDAB", "BADC", "DCBA"}


def test_nothing_plausible_is_said_so():
    assert plausible({0: 0, 1: 0}, 0, low=200, high=260).survivors == ()


def test_wide_counters_are_found_when_asked_for():
    words = dict(enumerate(block([1_234_567], ">q"), start=3204))
    found = plausible(words, 3204, low=1e6, high=2e6, kinds=(Kind.INT64,))
    assert Encoding(offset=0, kind=Kind.INT64, word_swap=False, byte_swap=False, scale=1.0) in [
        s.encoding for s in found.survivors
    ]
