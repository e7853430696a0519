"""Golden power flows of the 33-bus feeder and what the other benches must add up to."""

import pytest

from firmware_sim.grid.coupling import Coupling
from firmware_sim.grid.flow import Grid
from firmware_sim.grid.networks import NETWORKS, Network, cigre_lv, four_feeders, ieee33_4t
from firmware_sim.grid.profile import built_in, constant, from_file


def with_terminals(*nodes):
    n = ieee33_4t()
    return Network(
        name="x", v_nominal_v=n.v_nominal_v, sources=n.sources, branches=n.branches,
        loads=n.loads, terminals=nodes,
    )  # fmt: skip


# terminals, powers kW, loss kW, lowest voltage, its node
GOLDEN = [
    ((), (), 202.6771, 0.913090, "18"),
    (("22", "12"), (-300, 300), 176.1462, 0.921193, "33"),
    (("25", "29"), (-500, 500), 184.0229, 0.918869, "18"),
    (("33", "18"), (-100, 100), 201.8506, 0.913458, "33"),
    (("18", "22", "25", "33"), (250, -450, -50, 250), 158.2789, 0.931538, "32"),
]


@pytest.mark.parametrize(("nodes", "powers", "loss_kw", "low", "at"), GOLDEN)
def test_golden_flow(nodes, powers, loss_kw, low, at):
    flow = Grid(with_terminals(*nodes)).solve([p * 1000.0 for p in powers])
    assert flow.loss_w / 1000 == pytest.approx(loss_kw, abs=1e-4)
    node, volts = flow.lowest
    assert node == at
    assert volts == pytest.approx(low, abs=5e-6)


def test_voltages_at_the_four_terminals():
    flow = Grid(ieee33_4t()).solve([250e3, -450e3, -50e3, 250e3])
    assert flow.terminal_v_pu == pytest.approx((0.93593, 0.98358, 0.97029, 0.93183), abs=5e-6)


def test_demand_of_the_networks():
    assert sum(x.p_kw for x in ieee33_4t().loads) == 3715
    assert sum(x.q_kvar for x in ieee33_4t().loads) == 2300
    assert sum(x.p_kw for x in cigre_lv().loads) == pytest.approx(686.6)
    assert len(cigre_lv().nodes) == 43  # the common 20 kV bus is three sources here
    assert sum(x.p_kw for x in four_feeders().loads) == pytest.approx(3715 * 3.3)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_solves_and_injection_lifts_the_voltage(name):
    grid = Grid(NETWORKS[name]())
    n = len(grid.network.terminals)
    idle = grid.solve([0.0] * n)
    fed = grid.solve([50e3] * n)
    assert all(b > a for a, b in zip(idle.terminal_v_pu, fed.terminal_v_pu, strict=True))
    assert 0.85 < idle.lowest[1] < 1.0


def test_the_feeders_of_the_second_bench_do_not_feel_each_other():
    grid = Grid(four_feeders())
    a = grid.solve([0.0, 0.0, 0.0, 0.0]).terminal_v_pu
    b = grid.solve([500e3, 0.0, 0.0, 0.0]).terminal_v_pu
    assert b[0] > a[0] + 0.01
    assert b[1:] == pytest.approx(a[1:], abs=1e-9)
    sunny = grid.solve([0.0] * 4, sun_ratio=1.0).terminal_v_pu
    assert sunny[0] == pytest.approx(a[0], abs=1e-9)
    assert sunny[3] > a[3]


def test_coupling_gives_the_terminals_their_voltage(make_rig):
    rig = make_rig("mv4x3000")
    coupling = Coupling(Grid(ieee33_4t()), rig.sop, constant())
    rig.operate([0, -450_000, -50_000, 250_000])
    rig.wait(5, each=lambda: coupling.step(0.0))
    volts = [c.v_ac_v / 10_000 for c in rig.sop.converters]
    assert volts[0] == pytest.approx(0.9318, abs=0.0005)  # the master carries losses too
    assert volts[1:] == pytest.approx((0.98358, 0.97029, 0.93183), abs=0.001)
    assert coupling.loss_wh > 0
    assert rig.sop.station_state().name == "RUN"


def test_the_truth_tells_the_feeders_with_the_sop_and_without(make_rig):
    rig = make_rig()
    coupling = Coupling(Grid(ieee33_4t()), rig.sop, constant())
    found = coupling.truth(0.0)
    assert found["without"]["loss_w"] == 202_677
    assert (found["without"]["lowest_node"], found["without"]["lowest_v_pu"]) == ("18", 0.91309)
    for converter, p_w in zip(rig.sop.converters, (250e3, -450e3, -50e3, 250e3), strict=True):
        converter.p_w = p_w
    found = coupling.truth(0.0)
    assert found["with"]["loss_w"] == 158_279
    assert found["with"]["terminal_v_pu"] == [0.93593, 0.98358, 0.97029, 0.93183]
    assert found["without"]["loss_w"] == 202_677


def test_coupling_needs_as_many_terminals(make_rig):
    with pytest.raises(ValueError, match="3 terminals, the device has 4"):
        Coupling(Grid(cigre_lv()), make_rig().sop, constant())


def test_profile_of_the_day(tmp_path):
    profile = built_in()
    assert profile.at(0.0)[1] == 0
    assert profile.at(12 * 3600)[1] == pytest.approx(1, abs=0.01)
    assert profile.at(19 * 3600)[0] > profile.at(3 * 3600)[0]
    file = tmp_path / "p.csv"
    file.write_text("hour,load,sun\n0,0.5,0\n12,1.0,1\n")
    read = from_file(file)
    assert read.at(6 * 3600) == pytest.approx((0.75, 0.5))
    assert read.at(18 * 3600) == pytest.approx((0.75, 0.5))


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("time,load\n", ":1:1:"),
        ("hour,load,sun\n1,1,1\n", ":2:1:"),
        ("hour,load,sun\n0,1,1\n0,1,1\n", ":3:1:"),
        ("hour,load,sun\n0,1,x\n", ":2:1:"),
    ],
)
def test_a_bad_profile_names_its_line(tmp_path, content, where):
    file = tmp_path / "p.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"p\.csv" + where):
        from_file(file)


def test_an_open_branch_leaves_a_dead_section_with_its_load():
    grid = Grid(ieee33_4t())
    whole = grid.solve([0.0] * 4)
    grid.switch("16-17", closed=False)
    cut = grid.solve([0.0] * 4)
    assert grid.dead == {"17", "18"}
    assert cut.terminal_v_pu[0] == 0
    assert cut.terminal_v_pu[1:] == pytest.approx(whole.terminal_v_pu[1:], abs=0.01)
    assert cut.loss_w < whole.loss_w
    assert grid.island_load("18", 1.0, 0.0) == (150_000, 60_000)
    grid.close_all()
    assert grid.dead == frozenset()
    assert grid.solve([0.0] * 4).loss_w == pytest.approx(whole.loss_w, abs=1e-3)
    with pytest.raises(ValueError, match="no branch"):
        grid.switch("1-33", closed=False)


def test_a_terminal_forms_the_grid_of_its_dead_section(make_rig):
    rig = make_rig("mv4x3000", master_index=1)
    coupling = Coupling(Grid(ieee33_4t()), rig.sop, constant())

    def each():
        coupling.step(0.0)

    rig.operate([100_000, 0, -50_000, 100_000])
    rig.wait(5, each=each)
    coupling.switch("16-17", closed=False)
    rig.wait(6, each=each)
    assert rig.sop.converters[0].state.name == "FAULT"  # P_Q on a dead feeder trips
    assert rig.command(3) == 2
    rig.wait(1, each=each)
    assert rig.sop.converters[0].state.name == "STOPPED"
    other = make_rig("mv4x3000", master_index=1)
    feeders = Coupling(Grid(ieee33_4t()), other.sop, constant())
    feeders.switch("16-17", closed=False)
    other.wait(1, each=lambda: feeders.step(0.0))
    assert other.operate([0, 0, -50_000, 100_000], modes=[3, 1, 0, 0]) == (1, 2)
    other.wait(5, each=lambda: feeders.step(0.0))
    assert other.sop.converters[0].state.name == "ISLAND"
    assert other.powers[0] == 150_000
    assert other.sop.converters[0].q_var == 60_000


@pytest.mark.parametrize(("network", "factor"), [(ieee33_4t, -10e6), (cigre_lv, -2e6)])
def test_a_network_without_an_operating_point_says_so_and_recovers(network, factor):
    grid = Grid(network())
    n = len(grid.network.terminals)
    whole = grid.solve([0.0] * n)
    lost = grid.solve([factor] + [0.0] * (n - 1))
    assert lost.collapsed
    assert lost.lowest == ("", 0.0)
    assert grid.solve([0.0] * n) == whole
    assert not whole.collapsed


def test_a_terminal_that_draws_its_feeder_down_trips_and_the_others_live_on(make_rig):
    rig = make_rig("mv4x3000", master_index=1)
    coupling = Coupling(Grid(ieee33_4t()), rig.sop, constant())
    assert rig.operate([-2_900_000, 0, 1_000_000, 0], ramp_permille_per_s=[1000] * 4) == (1, 2)
    rig.wait(5, each=lambda: coupling.step(0.0))
    assert any("feeders collapsed at T1" in what for _, what in rig.sop.events)
    assert [c.state.name for c in rig.sop.converters] == ["FAULT", "RUN", "RUN", "RUN"]
    rig.wait(2, each=lambda: coupling.step(0.0))
    assert not coupling.flow.collapsed
    assert rig.sop.converters[0].feeder_v_v > 8_500
    assert not coupling.truth(0.0)["with"]["collapsed"]
