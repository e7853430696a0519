"""The station's registers: addresses, widths, refusals, consistency of one read."""

import struct

import pytest

from firmware_sim.faces.registers import ModbusRefusalError, Table


def code_of(call, *args):
    with pytest.raises(ModbusRefusalError) as refusal:
        call(*args)
    return refusal.value.exception_code


@pytest.mark.parametrize(
    ("table", "address", "count"),
    [
        (Table.HOLDING, 0, 69),
        (Table.HOLDING, 68, 1),
        (Table.INPUT, 0, 1),
        (Table.INPUT, 999, 2),
        (Table.INPUT, 1039, 2),
        (Table.INPUT, 1260, 1),
    ],
)
def test_what_does_not_exist(rig, table, address, count):
    assert code_of(rig.map.read, table, address, count) == 2


def test_writes_to_reserved_and_input_registers_are_refused(rig):
    assert code_of(rig.map.write, 12, [1]) == 2
    assert code_of(rig.map.write, 1000, [1]) == 2
    assert code_of(rig.map.write, 68, [1]) == 2


@pytest.mark.parametrize("address", [8, 20, 21, 22, 27, 32, 33])
def test_a_32_bit_value_is_never_written_in_halves(rig, address):
    first = address if address in (8, 20, 22, 27, 32) else address - 1
    assert code_of(rig.map.write, first, [1]) == 3
    assert code_of(rig.map.write, first + 1, [1]) == 3
    rig.map.write(first, [0, 1])


@pytest.mark.parametrize(
    ("address", "value"), [(5, 9), (5, 601), (5, 0), (6, 4), (7, 0), (7, 1001)]
)
def test_parameters_out_of_range_are_refused_not_clipped(rig, address, value):
    before = rig.map.read(Table.HOLDING, 0, 12)
    assert code_of(rig.map.write, address, [value]) == 3
    assert rig.map.read(Table.HOLDING, 0, 12) == before


def test_defaults(rig):
    assert rig.map.read(Table.HOLDING, 4, 8) == [0, 50, 1, 200, 0, 0, 0, 0]


def test_a_refused_block_changes_nothing(rig):
    words = [5, 7, 0, 0, 1, 5000, 1, 200, 0, 0, 10, 7]
    assert code_of(rig.map.write, 0, words) == 3
    assert rig.firmware.ack_seq == 0
    assert rig.firmware.lease_owner_id == 0


def test_terminal_block(rig):
    rig.operate([0, 100_000, -20_000, 0], q=[0, 30_000, 0, 0])
    rig.wait(10)
    words = rig.map.read(Table.INPUT, 1140, 40)
    fields = struct.unpack(">HiiIIIHiiIQQhIHHiH", struct.pack(">34H", *words[:34]))
    state, p, q, s, v, i, f, active, received, avail, inj, ab, t, fault, lim, ramp, qa, mode = (
        fields
    )
    assert (state, p, q, v, f) == (6, 100_000, 30_000, 4000, 5000)
    assert s == pytest.approx(104_403, abs=1)
    assert i == pytest.approx(1507, abs=1)
    assert (active, received, avail, fault, lim, ramp) == (100_000, 100_000, 250_000, 0, 0, 200)
    assert (qa, mode) == (30_000, 0)
    assert inj > 150
    assert ab == 0
    assert 250 < t < 850


def test_status_word_follows_the_state(rig):
    def bits():
        word = rig.map.read(Table.INPUT, 1001, 1)[0]
        return {k for k in range(15) if word >> k & 1}

    assert bits() == {1, 5, 11}
    rig.stage([0, 1000, 0, 0])
    rig.command(7)
    assert 10 in bits()
    rig.command(8)
    rig.wait(3)
    assert bits() == {2, 5, 6, 11}
    rig.wait(6, heartbeat=False)
    assert 9 in bits()
    rig.firmware.local = True
    assert 5 not in bits()
    assert 12 in bits()


def test_instr_id_echo_shows_selected_then_active(rig):
    def echo():
        high, low = rig.map.read(Table.INPUT, 1010, 2)
        return high << 16 | low

    rig.stage([0, 1000, 0, 0])
    rig.command(7, instr=0xAABBCCDD)
    assert echo() == 0xAABBCCDD
    rig.command(8, instr=0xAABBCCDD)
    rig.stage([0, 2000, 0, 0])
    rig.command(7, instr=0x11223344)
    assert echo() == 0x11223344
    rig.command(9)
    assert echo() == 0xAABBCCDD


def test_foreign_parameters_are_refused_while_leased(rig):
    rig.operate([0, 1000, 0, 0])
    rig.wait(1)
    assert code_of(rig.map.write, 11, [9]) == 4
    assert rig.map.read(Table.HOLDING, 11, 1) == [7]


def test_watchdog_counts_down_visibly(rig):
    rig.map.write(4, [1])
    rig.wait(2, heartbeat=False)
    assert rig.map.read(Table.INPUT, 1009, 1) == [30]
