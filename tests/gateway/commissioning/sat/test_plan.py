import copy
from pathlib import Path

import pytest

from gateway.commissioning.sat import plan
from gateway.config.yaml_reader import read_file

ROOT = Path(__file__).resolve().parents[4]
DATA = {
    "plan": "p-one", "title": "P",
    "steps": [{"title": "S", "checks": [{"run": "check scale {meter}", "each": "terminal"}]}],
}  # fmt: skip
PLACES = [plan.Place(terminal=f"T{n}", meter=f"m{n}", master=n == 1) for n in (1, 2, 3)]


def plain(node):
    if node.kind == "map":
        return {k.text: plain(v) for k, v in node.entries}
    if node.kind == "list":
        return [plain(i) for i in node.items]
    return node.value


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "plans").glob("*.yaml")), ids=lambda p: p.name
)
def test_every_shipped_plan_reads_binds_and_keeps_its_digest(path):
    document = read_file(path, prefix="S")
    assert not document.problems
    read = plan.read_plan(plain(document.root))
    assert read.id == path.stem
    bound = plan.bind(read, sop="SOP-1", station="station", places=PLACES)
    ids = [c.id for c in bound.checks()]
    assert len(ids) == len(set(ids)) > len(read.steps)
    assert not [c for c in bound.checks() if "{" in " ".join(c.arguments) + c.title + c.manual]
    again = plan.from_record(bound.data())
    assert again == bound
    assert again.digest() == bound.digest() != read.digest()


def test_each_repeats_for_terminals_or_slaves():
    data = copy.deepcopy(DATA)
    data["steps"][0]["checks"].append({"run": "test step {terminal}", "each": "slave"})
    bound = plan.bind(plan.read_plan(data), sop="S", station="st", places=PLACES)
    assert [(c.id, c.run, c.arguments) for c in bound.checks()] == [
        ("1.1", "check scale", ("m1",)), ("1.2", "check scale", ("m2",)),
        ("1.3", "check scale", ("m3",)), ("1.4", "test step", ("T2",)), ("1.5", "test step", ("T3",)),
    ]  # fmt: skip


def test_all_mistakes_come_at_once_with_their_path():
    wrong = {
        "plan": "Not An Id", "revision": 0, "titel": "x", "title": "T",
        "steps": [
            {"title": "A", "hold": "X", "checks": [{"run": "check clok"}]},
            {"title": "B", "checks": [{"run": "check clock", "manual": "look"}, {"each": "meter"}]},
            {"title": "C", "checks": [{"run": "check scale {meter}"}, {"run": "check scale {metre}"}]},
            {"title": "D", "gated": "yes", "checks": []},
        ],
    }  # fmt: skip
    with pytest.raises(plan.PlanError) as caught:
        plan.read_plan(wrong)
    paths = {"/".join(map(str, m.path)) for m in caught.value.mistakes}
    assert {
        "plan", "revision", "titel", "steps/0/hold", "steps/0/checks/0/run", "steps/1/checks/0",
        "steps/1/checks/1/each", "steps/2/checks/0", "steps/2/checks/1/run", "steps/3/gated",
        "steps/3/checks",
    } <= paths  # fmt: skip


@pytest.mark.parametrize("wrong", [[], "x", {"plan": "p-one", "title": "t", "steps": {}}])
def test_what_is_not_a_plan_is_refused(wrong):
    with pytest.raises(plan.PlanError):
        plan.read_plan(wrong)
