"""Devices described by a file: any number of terminals, every mistake at once with its place."""

import pytest

from firmware_sim.device_file import read_device
from firmware_sim.yamlfile import FileMistakesError

GOOD = """\
kind: pilot
v_dc: 20 kV
losses: {a: 0.3 %, b: 0.5 %, c: 0.7 %}
terminals:
  - {s: 6 MVA, v_ac: 10 kV, c_dc: 450 uF}
  - {s: 3 MVA, v_ac: 10 kV, c_dc: 450 uF}
  - {s: 3 MVA, v_ac: 33 kV, c_dc: 0.45 mF, tau_p: 30 ms}
"""


def test_a_good_file(tmp_path):
    path = tmp_path / "pilot.yaml"
    path.write_text(GOOD)
    spec = read_device(path)
    assert [t.s_va for t in spec.terminals] == [6_000_000, 3_000_000, 3_000_000]
    assert spec.v_dc_nominal_v == 20_000
    assert spec.losses.b_pu == pytest.approx(0.005)
    assert spec.terminals[2].tau_p_s == pytest.approx(0.03)


def test_every_mistake_with_its_place(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "kind: x\nv_dc: 800\nlosess: {a: 1 %}\nterminals:\n  - {s: 6 MVA, v_ac: 10 kW}\n"
    )
    with pytest.raises(FileMistakesError) as found:
        read_device(path)
    lines = [line.removeprefix(str(path)) for line in str(found.value).splitlines()]
    assert lines == [
        ":2:1: v_dc: 800 is no voltage; a number with V, kV",
        ":3:1: unknown key losess; did you mean losses?",
        ":4:1: terminals: two to 32 are possible",
        ":5:16: v_ac: '10 kW' is no voltage; a number with V, kV",
        ":5:5: c_dc is missing",
    ]


def test_broken_yaml_names_its_place(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("a: [1, 2\nb: 3\n")
    with pytest.raises(FileMistakesError, match=r"broken\.yaml:2:"):
        read_device(path)


def test_a_device_from_a_file_runs(start, tmp_path):
    path = tmp_path / "pilot.yaml"
    path.write_text(GOOD)
    device = start(kind=str(path))
    assert len(device.listening["meters"]) == 3
    assert device.wire().read(4, 1180, 1) == [5]
    assert device.wire().read(4, 1220, 1) == 2


@pytest.mark.parametrize("kind", ["四端柔性开关", "four-terminal-soft-open-point-" + "x" * 300])
def test_a_name_the_wire_cannot_carry_is_cut_and_not_the_connection(make_bench, tmp_path, kind):
    path = tmp_path / "named.yaml"
    path.write_text(GOOD.replace("pilot", kind))
    device = make_bench(spec=read_device(path)).device
    model_1 = device.responder.respond(1, bytes((3, 0x9C, 0x44, 0, 66)))
    assert len(model_1) == 2 + 2 * 66
    for pdu in (bytes((17,)), bytes((43, 14, 1, 0))):
        assert 0 < len(device.responder.respond(1, pdu)) <= 253
