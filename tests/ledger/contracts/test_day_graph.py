from fakes.seeds import for_seeds

from ledger.contracts import certificate
from ledger.contracts.day_graph import arcs_from, flows_from, graph_of, layout_of
from ledger.contracts.requests import nearest_first, run_day, walk
from ledger.contracts.requests_document import day_from


@for_seeds(range(80))
def test_a_days_answer_is_a_flow_on_its_graph_and_reads_back(tight, seed):
    day = day_from(tight(seed))
    graph = graph_of(day)
    flows = run_day(day, lambda problem: walk(problem, nearest_first(problem)))
    arcs = arcs_from(day, flows)
    assert len(arcs) == len(graph.tail_index)
    assert flows_from(day, arcs) == flows
    # The rule charges on top of what it discharges in the same slot; the graph sees the net.
    assert certificate.flow_flaws(graph, arcs) == []


@for_seeds(range(20))
def test_supplies_sum_to_zero_and_arcs_stay_inside(tight, seed):
    day = day_from(tight(seed))
    graph, at = graph_of(day), layout_of(day)
    assert sum(graph.supply_wh) == 0
    assert len(graph.supply_wh) == at.node_count
    assert all(0 <= node < at.node_count for node in graph.tail_index + graph.head_index)
    assert all(capacity >= 0 for capacity in graph.capacity_wh)
    columns = {len(column) for column in (graph.tail_index, graph.head_index, graph.cost_ncur_per_wh, graph.capacity_wh)}  # fmt: skip
    assert len(columns) == 1


def test_a_flow_that_breaks_a_limit_is_named(tight):
    day = day_from(tight(1))
    graph = graph_of(day)
    arcs = [0] * len(graph.tail_index)
    arcs[0] = graph.capacity_wh[0] + 1
    flaws = certificate.flow_flaws(graph, arcs)
    assert flaws[0].startswith("arc 0 carries")
    assert any("out of balance" in flaw for flaw in flaws)
