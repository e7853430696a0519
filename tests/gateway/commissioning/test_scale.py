import math
import struct

import pytest

from gateway.commissioning import scale
from gateway.commissioning.finding import Verdict, worst

TRUE = {
    "v1": 231.0, "v2": 229.5, "v3": 230.4, "i1": 48.0, "i2": 47.5, "i3": 48.2,
    "p1": 10900.0, "p2": 10700.0, "p3": 10950.0, "q1": 1500.0, "q2": 1450.0, "q3": 1520.0,
    "p": 32550.0, "q": 4470.0, "s": 32856.0, "f": 50.02,
}  # fmt: skip


def faults(points):
    lines = scale.identities("mtr-a", points, v_nominal_v=230)
    return [line for line in lines if line.verdict is Verdict.FAULT]


def test_a_sound_meter_passes_every_identity():
    lines = scale.identities("mtr-a", TRUE, v_nominal_v=230)
    assert worst([line.verdict for line in lines]) is Verdict.OK
    assert {line.id for line in lines} == {
        "sum-p", "sum-q", "s2", "v-1", "v-2", "v-3", "pvi-1", "pvi-2", "pvi-3", "f",
    }  # fmt: skip


@pytest.mark.parametrize("point", sorted(TRUE))
@pytest.mark.parametrize("factor", [10.0, 0.1, 1000.0, 0.001])
def test_every_scale_fault_of_every_point_is_caught_by_an_identity(point, factor):
    assert faults(TRUE | {point: TRUE[point] * factor})


@pytest.mark.parametrize("point", sorted(TRUE))
def test_swapped_words_are_caught_by_an_identity(point):
    raw = struct.pack(">f", TRUE[point])
    (swapped,) = struct.unpack(">f", raw[2:] + raw[:2])
    if raw[2:] == raw[:2]:
        pytest.skip("both words are equal")
    assert faults(TRUE | {point: swapped})


@pytest.mark.parametrize("point", ["p1", "p2", "p3", "p", "q1", "q", "v1", "f"])
def test_a_reversed_sign_is_caught_and_called_so(point):
    found = faults(TRUE | {point: -TRUE[point]})
    assert found
    if point in ("p", "q"):
        assert found[0].finding.code == "sign"


def test_the_finding_names_place_ratio_and_mend():
    (line,) = faults({k: v for k, v in TRUE.items() if k != "s"} | {"p": TRUE["p"] * 10})
    assert line.finding.code == "scale-10"
    assert line.finding.where == "mtr-a p"
    assert "ten times too large" in line.finding.what
    assert line.finding.punch == "A"


def test_idle_identities_say_nothing_rather_than_ok():
    lines = scale.identities("m", {"p1": 3, "p2": 2, "p3": 1, "p": 60}, v_nominal_v=230)
    assert [line.verdict for line in lines] == [Verdict.UNDECIDED]


def test_not_a_number_is_a_fault():
    assert [line.finding.code for line in faults({"f": math.nan})] == ["nan"]


def grow(**over):
    fields = {
        "p_w_mean": 36_000.0, "span_s": 300.0, "import_wh": (1000, 4000), "export_wh": (50, 50),
        "resolution_wh": 1, "import_positive": True,
    }  # fmt: skip
    (line, *_rest) = scale.counters("m", **(fields | over))
    return line


def test_counters_grow_as_the_power_says():
    assert grow().verdict is Verdict.OK
    assert grow(import_wh=(50, 50), export_wh=(1000, 4000)).finding.code == "sign"
    assert grow(import_wh=(1000, 31_000)).finding.code == "scale-10"
    assert grow(import_wh=(1000, 900)).finding.code == "counter-fell"
    assert grow(p_w_mean=100.0, import_wh=(0, 8)).verdict is Verdict.UNDECIDED


def test_meter_and_converter_are_two_readings_of_one_power():
    assert scale.pair("mtr-b", 99_000, 100_000, s_va=250_000).verdict is Verdict.OK
    assert scale.pair("mtr-b", 2_000, 3_000, s_va=250_000).verdict is Verdict.UNDECIDED
    assert scale.pair("mtr-b", -99_000, 100_000, s_va=250_000).finding.code == "sign"
    assert scale.pair("mtr-b", 10_000, 100_000, s_va=250_000).finding.code == "scale-10"
    wrong_ct = scale.pair("mtr-b", 62_500, 100_000, s_va=250_000, ct_primary_a=250)
    assert wrong_ct.finding.code == "ct-ratio"
    assert "one of 400 A" in wrong_ct.finding.what


def test_devices_on_one_busbar_agree():
    same = scale.busbar("a", "b", {"v1": 230.0, "f": 50.0}, {"v1": 231.0, "f": 50.02})
    assert [line.verdict for line in same] == [Verdict.OK, Verdict.OK]
    (v1,) = scale.busbar("a", "b", {"v1": 398.0}, {"v1": 230.0})
    assert v1.finding.code == "root-3"


def test_what_comes_out_went_in():
    def verdict(p1_w, p2_w):
        return scale.balance("SOP-1", {"T1": p1_w, "T2": p2_w}, losses_w_max=5000)

    assert verdict(-103_000, 100_000).verdict is Verdict.OK
    assert "more comes out" in verdict(-90_000, 100_000).finding.what
    assert "missing" in verdict(-120_000, 100_000).finding.what
    assert verdict(103_000, 100_000).verdict is Verdict.FAULT


def test_a_reference_from_a_display_decides():
    ok, off, none = scale.references(
        "mtr-a", {"v1": 231.2, "v2": 22.98}, [("v1", 231.2, 0.1), ("v2", 229.8, 0.1), ("x", 1, 1)]
    )
    assert (ok.verdict, ok.difference) == (Verdict.OK, 0)
    assert off.finding.code == "scale-10"
    assert none.finding.code == "no-point"
