"""What a meter counts: direction, the 48 wirings, reset and exchange."""

import math

import pytest

from firmware_sim.plant.meter import Meter, Wiring, arrangements


class Line:
    def __init__(self, p_w, q_var=0.0):
        self.p_w, self.q_var, self.v_ac_v, self.f_hz = p_w, q_var, 400.0, 50.0


def meter(p_w, q_var=0.0, **kw):
    return Meter(Line(p_w, q_var), serial_id=1, **kw)


def test_injection_counts_as_export_and_absorption_as_import():
    m = meter(36_000.0)
    m.count(100.0)
    assert m.export_wh() == pytest.approx(1000)
    assert m.import_wh() == 0
    assert m.p_w() == -36_000
    m.source.p_w = -36_000.0
    m.count(100.0)
    assert m.import_wh() == pytest.approx(1000)
    assert m.import_wh(ahead_s=10) == pytest.approx(1100)
    assert m.export_wh(ahead_s=10) == pytest.approx(1000)


def test_gain_error():
    m = meter(-36_000.0, gain_ratio=1.005)
    m.count(100.0)
    assert m.import_wh() == pytest.approx(1005)


def test_there_are_48_wirings_and_one_is_right():
    every = arrangements()
    assert len(set(every)) == 48
    assert [w for w in every if w.right] == [Wiring()]


@pytest.mark.parametrize("wiring", arrangements(), ids=str)
def test_power_by_wiring_is_the_phasor_sum(wiring):
    p_w, q_var = -30_000.0, -12_000.0
    m = meter(p_w, q_var, wiring=wiring)
    s = complex(-p_w, -q_var) / 3
    expected = 0.0
    for own, (conductor, sign) in enumerate(
        zip(wiring.order_index, wiring.polarity_level, strict=True)
    ):
        u = complex(math.cos(-own * 2 * math.pi / 3), math.sin(-own * 2 * math.pi / 3))
        i_right = u_of(conductor) * s.conjugate()
        expected += (sign * u * i_right.conjugate()).real
    assert m.p_w() == pytest.approx(expected, abs=1e-6)
    if wiring.right:
        assert m.p_w() == 30_000


def u_of(k):
    return complex(math.cos(-k * 2 * math.pi / 3), math.sin(-k * 2 * math.pi / 3))


def test_all_turned_round_counts_into_the_wrong_register():
    m = meter(-36_000.0, wiring=Wiring(polarity_level=(-1, -1, -1)))
    m.count(100.0)
    assert m.export_wh() == pytest.approx(1000)
    assert m.import_wh() == 0


def test_one_turned_round_loses_two_thirds():
    m = meter(-36_000.0, wiring=Wiring(polarity_level=(1, -1, 1)))
    m.count(100.0)
    assert m.import_wh() == pytest.approx(1000 / 3)


def test_reset_and_exchange():
    m = meter(-36_000.0, start_import_wh=5000.0)
    m.count(100.0)
    m.reset()
    assert m.import_wh() == 0
    m.exchange(77, 12_345.0, 9.0)
    assert (m.serial_id, m.import_wh(), m.export_wh()) == (77, 12_345.0, 9.0)


def test_another_wiring_changes_no_phase_counter_that_was_counted():
    m = meter(-36_000.0, start_import_wh=300.0)
    m.count(100.0)

    def phases():
        reading = m.reading()
        return [reading[f"e_imp{k}"] for k in (1, 2, 3)] + [reading[f"e_exp{k}"] for k in (1, 2, 3)]

    before = phases()
    assert before == pytest.approx([1300 / 3] * 3 + [0] * 3)
    m.wiring = Wiring(polarity_level=(1, -1, 1))
    assert phases() == pytest.approx(before)
    m.count(100.0)
    wrong = [2300 / 3, 1300 / 3, 2300 / 3, 0, 1000 / 3, 0]
    assert phases() == pytest.approx(wrong)
    m.wiring = Wiring()
    assert phases() == pytest.approx(wrong)
    m.count(100.0)
    assert phases()[:3] == pytest.approx([3300 / 3, 2300 / 3, 3300 / 3])
    ahead = m.reading(ahead_s=100.0)
    assert ahead["e_imp2"] == pytest.approx(3300 / 3)
    m.reset()
    assert phases() == [0] * 6
