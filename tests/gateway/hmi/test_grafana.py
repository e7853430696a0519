"""Boards and rules ask only for metrics that the gateway gives, and promtool agrees."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from gateway.hmi import metrics

FOLDER = Path(__file__).parents[3] / "configs" / "grafana"
BOARDS = sorted(FOLDER.glob("*.json"))
RULES = YAML(typ="safe").load((FOLDER / "rules.yaml").read_text())
NAME = re.compile(r"\bsopgw[_a-z0-9]+(?::[_a-z0-9]+)*")


def program(name):
    found = shutil.which(name)
    if found is None:
        if os.environ.get("SOPGW_REQUIRE_SERVERS") == "1":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def given(view):
    """Names of all series the gateway gives and the rules record."""
    told = {
        re.split(r"[{ ]", line)[0] for line in metrics.render(view).splitlines() if line[0] != "#"
    }
    return told | {r["record"] for g in RULES["groups"] for r in g["rules"] if "record" in r}


def test_boards_ask_only_for_what_is_given(view):
    assert len(BOARDS) == 2
    for path in BOARDS:
        board = json.loads(path.read_text())
        asked = [t["expr"] for p in board["panels"] for t in p["targets"]]
        asked += [v["query"]["query"] for v in board["templating"]["list"]]
        unknown = {n for expr in asked for n in NAME.findall(expr)} - given(view)
        assert unknown == set(), path.name


def test_boards_have_fixed_names_and_a_data_source_to_choose():
    boards = [json.loads(p.read_text()) for p in BOARDS]
    assert sorted(b["uid"] for b in boards) == ["sopgw-links", "sopgw-site"]
    for board in boards:
        assert [i["name"] for i in board["__inputs"]] == ["DS_PROMETHEUS"]
        assert {p["datasource"]["uid"] for p in board["panels"]} == {"${DS_PROMETHEUS}"}
        numbers = [p["id"] for p in board["panels"]]
        assert len(numbers) == len(set(numbers))


def test_panels_do_not_overlap_and_stay_in_the_grid():
    for path in BOARDS:
        places = [p["gridPos"] for p in json.loads(path.read_text())["panels"]]
        taken = [(x, y) for g in places for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])]  # fmt: skip
        assert len(taken) == len(set(taken)), path.name
        assert max(x for x, _ in taken) < 24


def test_rules_ask_only_for_what_is_given_and_say_what_to_do(view):
    for rule in (r for g in RULES["groups"] for r in g["rules"]):
        assert set(NAME.findall(rule["expr"])) <= given(view) | {"sopgw"}
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"high", "medium", "low"}
            assert {"summary", "action"} == set(rule["annotations"])


def test_promtool_finds_rules_and_their_tests_good():
    promtool = program("promtool")
    for verb, name in (("check", "rules.yaml"), ("test", "rules_test.yaml")):
        run = subprocess.run(
            [promtool, verb, "rules", name], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
