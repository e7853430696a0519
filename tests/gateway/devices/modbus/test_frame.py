import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU

from gateway.devices.modbus import frame
from gateway.devices.modbus.frame import Lie, Refusal, WrongAnswer
from gateway.devices.profile import Table

READ = frame.read(7, Table.HOLDING, 10, 2)
WRITE = frame.write_registers(7, 10, [1, 2])
TID = 0x1234


def tcp(pdu, *, tid=TID, protocol=0, unit=7, length=None):
    length = len(pdu) + 1 if length is None else length
    return tid.to_bytes(2) + protocol.to_bytes(2) + length.to_bytes(2) + bytes((unit,)) + pdu


GOOD = tcp(bytes.fromhex("03 04 000a 000b"))

# name: (request, reply, kind): the lies a strict client must see through.
LIES = {
    "transaction id 0": (READ, tcp(GOOD[7:], tid=0), Lie.TRANSACTION),
    "next transaction id": (READ, tcp(GOOD[7:], tid=TID + 1), Lie.TRANSACTION),
    "previous transaction id": (READ, tcp(GOOD[7:], tid=TID - 1), Lie.TRANSACTION),
    "swapped transaction id": (READ, tcp(GOOD[7:], tid=0x3412), Lie.TRANSACTION),
    "protocol 1": (READ, tcp(GOOD[7:], protocol=1), Lie.PROTOCOL),
    "length 0": (READ, tcp(GOOD[7:], length=0), Lie.LENGTH),
    "length 1": (READ, tcp(GOOD[7:], length=1), Lie.LENGTH),
    "length 2": (READ, tcp(GOOD[7:], length=2), Lie.LENGTH),
    "length one short": (READ, tcp(GOOD[7:], length=6), Lie.LENGTH),
    "length one long": (READ, tcp(GOOD[7:], length=8), Lie.LENGTH),
    "length 255": (READ, tcp(GOOD[7:], length=255), Lie.LENGTH),
    "length 65535": (READ, tcp(GOOD[7:], length=65535), Lie.LENGTH),
    "other unit": (READ, tcp(GOOD[7:], unit=8), Lie.UNIT),
    "unit 0": (READ, tcp(GOOD[7:], unit=0), Lie.UNIT),
    "function 4 for 3": (READ, tcp(b"\x04" + GOOD[8:]), Lie.FUNCTION),
    "function 6 for 3": (READ, tcp(bytes.fromhex("06 000a 0001")), Lie.FUNCTION),
    "function 16 for 3": (READ, tcp(bytes.fromhex("10 000a 0002")), Lie.FUNCTION),
    "one register for two": (READ, tcp(bytes.fromhex("03 02 000a")), Lie.LENGTH),
    "four registers for two": (READ, tcp(b"\x03\x08" + bytes(8)), Lie.LENGTH),
    "byte count 0": (READ, tcp(bytes.fromhex("03 00")), Lie.LENGTH),
    "byte count 0 with data": (READ, tcp(bytes.fromhex("03 00 000a 000b")), Lie.BYTE_COUNT),
    "odd byte count": (READ, tcp(bytes.fromhex("03 03 000a 000b")), Lie.BYTE_COUNT),
    "byte count too big": (READ, tcp(bytes.fromhex("03 06 000a 000b")), Lie.BYTE_COUNT),
    "exception of another function": (READ, tcp(bytes.fromhex("84 02")), Lie.FUNCTION),
    "exception without a code": (READ, tcp(bytes.fromhex("83")), Lie.LENGTH),
    "exception one byte long": (READ, tcp(bytes.fromhex("83 02 00")), Lie.LENGTH),
    "exception code 0": (READ, tcp(bytes.fromhex("83 00")), Lie.EXCEPTION),
    "echo of another address": (WRITE, tcp(bytes.fromhex("10 000b 0002")), Lie.ECHO),
    "echo of another count": (WRITE, tcp(bytes.fromhex("10 000a 0001")), Lie.ECHO),
    "echo of another function": (WRITE, tcp(bytes.fromhex("06 000a 0002")), Lie.FUNCTION),
    "echo with a tail": (WRITE, tcp(bytes.fromhex("10 000a 0002 00")), Lie.LENGTH),
    "echo cut off": (WRITE, tcp(bytes.fromhex("10 000a 00")), Lie.LENGTH),
}


def judge(request, data):
    return frame.judge_tcp(request, TID, data)


def test_there_are_at_least_28_lies():
    assert len(LIES) >= 28


@pytest.mark.parametrize("name", LIES)
def test_no_lie_is_taken_for_an_answer(name):
    request, data, kind = LIES[name]
    with pytest.raises(WrongAnswer) as caught:
        judge(request, data)
    assert caught.value.kind is kind


@pytest.mark.parametrize("name", LIES)
def test_no_lie_is_taken_when_it_comes_in_pieces(name):
    request, data, _ = LIES[name]
    taken = []
    with pytest.raises(WrongAnswer):
        taken.extend(judge(request, data[:end]) for end in range(1, len(data) + 1))
    assert not any(taken)


def test_the_right_answer_is_taken_whole_and_only_whole():
    assert judge(READ, GOOD) == (bytes.fromhex("000a000b"), len(GOOD))
    assert judge(READ, GOOD + b"\x99") == (bytes.fromhex("000a000b"), len(GOOD))
    assert [judge(READ, GOOD[:n]) for n in range(len(GOOD))] == [None] * len(GOOD)
    assert judge(WRITE, tcp(bytes.fromhex("10 000a 0002"))) == (b"", 12)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 8, 10, 11, 0x63, 255])
def test_every_exception_is_a_refusal_with_its_code(code):
    with pytest.raises(Refusal) as caught:
        judge(READ, tcp(bytes((0x83, code))))
    assert caught.value.code == code


def test_quirks_are_accepted_only_when_the_profile_says_so():
    zero = tcp(GOOD[7:], tid=0)
    assert frame.judge_tcp(READ, TID, zero, transaction_zero_ok=True) == (zero[9:], len(zero))
    long = tcp(bytes.fromhex("83 02"), length=4)
    with pytest.raises(Refusal):
        frame.judge_tcp(READ, TID, long, exception_length_four_ok=True)
    with pytest.raises(WrongAnswer):
        judge(READ, long)


@given(st.integers(0, 8 * len(GOOD) - 1))
def test_a_flipped_header_bit_is_seen_and_a_flipped_data_bit_changes_the_data(bit):
    data = bytearray(GOOD)
    data[bit // 8] ^= 1 << bit % 8
    try:
        taken = judge(READ, bytes(data))
    except (WrongAnswer, Refusal):
        assert bit < 8 * 9
    else:
        assert bit >= 8 * 9
        assert taken == (bytes(data[9:]), len(GOOD))


@given(st.binary(max_size=300))
def test_any_bytes_end_in_one_of_three_ways(data):
    for request in (READ, WRITE, frame.device_id(7), frame.report_id(7)):
        for judged in (judge, frame.judge_rtu):
            try:
                taken = judged(request, data)
            except (WrongAnswer, Refusal):
                continue
            assert taken is None or 0 < taken[1] <= len(data)


@given(st.binary(max_size=260))
def test_the_checksum_agrees_with_another_stack(data):
    assert frame.crc16(data) == int.from_bytes(FramerRTU.compute_CRC(data).to_bytes(2), "little")


def rtu(pdu, unit=7):
    body = bytes((unit,)) + pdu
    return body + frame.crc16(body).to_bytes(2, "little")


def test_rtu_answers():
    good = rtu(bytes.fromhex("03 04 000a 000b"))
    assert frame.judge_rtu(READ, good) == (bytes.fromhex("000a000b"), len(good))
    assert [frame.judge_rtu(READ, good[:n]) for n in range(len(good))] == [None] * len(good)
    with pytest.raises(Refusal) as caught:
        frame.judge_rtu(READ, rtu(b"\x83\x06"))
    assert caught.value.code == 6
    assert frame.judge_rtu(WRITE, rtu(bytes.fromhex("10 000a 0002"))) == (b"", 8)


@pytest.mark.parametrize(
    ("request_", "data", "kind"),
    [
        (READ, rtu(bytes.fromhex("03 04 000a 000b"), unit=8), Lie.UNIT),
        (READ, rtu(bytes.fromhex("04 04 000a 000b")), Lie.FUNCTION),
        (READ, rtu(bytes.fromhex("03 02 000a")), Lie.BYTE_COUNT),
        (READ, rtu(bytes.fromhex("03 06 000a 000b 000c")), Lie.BYTE_COUNT),
        (READ, rtu(bytes.fromhex("84 02")), Lie.FUNCTION),
        (READ, rtu(bytes.fromhex("83 00")), Lie.EXCEPTION),
        (READ, rtu(bytes.fromhex("03 04 000a 000b"))[:-1] + b"\0", Lie.CRC),
        (WRITE, rtu(bytes.fromhex("10 000b 0002")), Lie.ECHO),
        (WRITE, rtu(bytes.fromhex("10 000a 0003")), Lie.ECHO),
    ],
)
def test_rtu_lies(request_, data, kind):
    with pytest.raises(WrongAnswer) as caught:
        frame.judge_rtu(request_, data)
    assert caught.value.kind is kind


def test_a_flipped_bit_in_an_rtu_answer_is_always_seen():
    good = rtu(bytes.fromhex("03 04 000a 000b"))
    for bit in range(8 * len(good)):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        # A flip of function 3 to 0x83 makes a shorter frame, whose checksum cannot fit either.
        with pytest.raises(WrongAnswer):
            frame.judge_rtu(READ, bytes(data))


def test_requests_read_the_way_another_stack_writes_them():
    assert READ.pdu == bytes.fromhex("03 000a 0002")
    assert WRITE.pdu == bytes.fromhex("10 000a 0002 04 0001 0002")
    assert frame.write_register(1, 4, 513).pdu == bytes.fromhex("06 0004 0201")
    assert frame.write_coil(1, 172, on=True).pdu == bytes.fromhex("05 00ac ff00")
    # Application protocol V1.1b3 §6.11: ten coils from 20 on, CD 01.
    coils = [bool(0x01CD >> k & 1) for k in range(10)]
    assert frame.write_coils(1, 19, coils).pdu == bytes.fromhex("0f 0013 000a 02 cd01")
    assert frame.read(1, Table.COIL, 19, 19).reply_length == 5


def test_identification_answers_are_measured_by_their_own_objects():
    request = frame.device_id(7)
    pdu = bytes.fromhex("2b 0e 01 01 00 00 02") + b"\x00\x04ACME" + b"\x01\x03SOP"
    assert judge(request, tcp(pdu)) == (pdu[1:], len(tcp(pdu)))
    assert frame.judge_rtu(request, rtu(pdu)) == (pdu[1:], len(rtu(pdu)))
    with pytest.raises(WrongAnswer):
        judge(request, tcp(pdu + b"\0"))
    with pytest.raises(WrongAnswer):
        judge(request, tcp(pdu[:-1]))
