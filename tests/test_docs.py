"""The pages say what is: links lead somewhere, commands can be typed, tables and words are today's.

``python tests/test_docs.py`` prints the README's table of devices as it should be.
"""

import importlib.util
import re
import shlex
import sys
import tomllib
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from firmware_sim.__main__ import main as sopsim
from gateway.cli.root import cli as sopgw
from ledger.cli import sopledger

ROOT = Path(__file__).resolve().parent.parent
FRONT = [ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")]
PAGES = [*FRONT, *sorted((ROOT / "docs").rglob("*.md"))]
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PROGRAMS = {"sopgw": sopgw, "sopledger": sopledger, "sopsim": sopsim}
NAMED = re.compile(r"`((?:configs|docs|firmware_sim|gateway|ledger|tests)/[\w./-]+(?:::\w+)?)`")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README_LINES_MAX = 130  # two screens and the picture


def pages(paths):
    return pytest.mark.parametrize("page", paths, ids=lambda p: str(p.relative_to(ROOT)))


def anchors(text):
    """Headings as a reader's browser knows them."""
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pages(PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"", text)
    wrong = []
    for target in (a or b for a, b in targets):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place.read_text())):
            wrong.append(target)
    assert wrong == []


@pages(PAGES)
def test_files_and_tests_that_are_named_exist(page):
    wrong = []
    for name in NAMED.findall(page.read_text()):
        path, _, test = name.partition("::")
        place = ROOT / path
        if not place.exists() or (test and f"def {test}(" not in place.read_text()):
            wrong.append(name)
    assert wrong == []


def typed(text):
    """Lines of ours that a reader could type: in fences and in code quotes, up to the remark."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if re.match(r"(\$ )?(sopgw|sopledger|sopsim) ", line):
                yield re.split(r"\s{2,}|\s#|\s[|>&]", line.removeprefix("$ "))[0]
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`((?:sopgw|sopledger|sopsim) [a-z][^`\n]*)`", outside)


def mistake(line):
    """What is wrong with a line; None when it can be typed."""
    words = shlex.split(line)
    command = PROGRAMS[words[0]]
    context = command.make_context(words.pop(0), [], resilient_parsing=True)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = [command.get_command(context, name) for name in words[0].split("|")]
        if None in found:
            return f"{line}: no command {words[0]}"
        command = found[-1]
        context = command.make_context(words.pop(0), [], parent=context, resilient_parsing=True)
    known = {o for p in command.get_params(context) for o in (*p.opts, *p.secondary_opts)}
    unknown = {w.split("=")[0] for w in words if re.match(r"--?[a-z]", w)} - known
    return f"{line}: {sorted(unknown)}" if unknown else None


@pages(PAGES)
def test_every_command_on_the_page_can_be_typed(page):
    text = page.read_text().split("\n## What is not there yet")[0]
    assert [m for m in map(mistake, typed(text)) if m] == []


def test_a_command_there_is_not_would_be_seen():
    assert mistake("sopgw fly") == "sopgw fly: no command fly"
    assert mistake("sopledger verify out --key k --quick") == (
        "sopledger verify out --key k --quick: ['--quick']"
    )
    assert list(typed("`sopgw run` and\n```\nsopsim ls   what there is\n```\n")) == [
        "sopsim ls",
        "sopgw run",
    ]


def test_make_targets_and_their_scripts_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = {t for p in PAGES for t in re.findall(r"`(?:sudo )?make ([a-z-]+)", p.read_text())}
    named |= set(re.findall(r"^make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(), re.M))
    assert named <= targets
    assert [s for s in re.findall(r"tests/\S+\.py", makefile) if not (ROOT / s).exists()] == []


def test_the_diagram_is_drawn_from_the_dispatch_table():
    spec = importlib.util.spec_from_file_location("table", ROOT / "docs/dispatch_table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    assert f"```mermaid\n{table.diagram()}\n```" in (ROOT / "docs/architecture.md").read_text()


def test_words_of_the_glossary_are_used():
    rows = re.findall(r"^\|([^|]*)\|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)
    words = {w for row in rows for w in re.findall(r"\*\*([^*]+)\*\*", row)}
    sources = "\n".join(
        p.read_text().lower()
        for package in ("gateway", "ledger", "firmware_sim")
        for p in (ROOT / package).rglob("*.py")
    )
    assert len(words) > 70
    unused = [w for w in words if not re.search(rf"(?<![a-z]){re.escape(w)}(?![a-z])", sources)]
    assert unused == []


def devices():
    """The README's table, from the profiles."""
    yield "| device | kind | over | `verified` | profile |"
    yield "|---|---|---|---|---|"
    for path in sorted((ROOT / "configs/profiles").glob("*.yaml")):
        node = YAML(typ="safe").load(path)
        models = ", ".join(map(str, node["models"]))
        level = node.get("verified", {}).get("level", "none")
        over = {"modbus": "Modbus", "opcua": "OPC UA"}[node["protocol"]]
        place = path.relative_to(ROOT)
        yield (
            f"| {node['vendor']} {models} | {node['kind']} | {over} | {level} "
            f"| [{node['profile']}]({place}) |"
        )


def test_supported_devices_are_the_profiles_there_are():
    text = (ROOT / "README.md").read_text()
    table = re.search(r"<!-- devices -->\n(.*?)\n<!-- /devices -->", text, re.DOTALL)[1]
    assert table == "\n".join(devices()), "python tests/test_docs.py prints it as it should be"


def test_the_readme_is_two_screens_and_says_what_it_is_not():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= README_LINES_MAX
    for words in ("not an emergency stop", "not protection", "not a safety function", "Apache-2.0"):
        assert words in text
    assert "./demo" in text
    assert "./test" in text


@pages(DECISIONS)
def test_a_decision_says_what_was_decided_and_what_follows(page):
    text = page.read_text()
    assert re.match(rf"# {page.name[:4]} \S", text)
    for heading in ("Status", "Context", "Decision", "Consequences"):
        assert re.search(rf"^(## |\*\*){heading}", text, re.MULTILINE), heading


def test_decisions_are_numbered_once():
    numbers = [p.name[:4] for p in DECISIONS]
    assert len(set(numbers)) == len(numbers)


def names(requirements):
    return {re.match(r"[\w.-]+", r)[0] for r in requirements}


def test_every_direct_dependency_has_its_reason_and_licence():
    page = next(p for p in DECISIONS if p.name.endswith("-dependencies.md")).read_text()
    listed = set(re.findall(r"^\| ([\w.-]+) \|", page, re.MULTILINE)) - {"package"}
    extras = PROJECT["optional-dependencies"].values()
    assert listed == names(PROJECT["dependencies"]).union(*map(names, extras))
    assert len(PROJECT["dependencies"]) <= 12


def test_the_changelog_has_this_version_and_our_headings():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{PROJECT['version']}]" in text
    for heading in ("### Safety", "### Contract"):
        assert heading in text


def test_the_page_of_figures_names_every_other():
    text = (ROOT / "docs/benchmarks.md").read_text()
    others = [p.name for p in (ROOT / "docs").glob("benchmarks-*.md")]
    assert [name for name in others if f"({name})" not in text] == []


if __name__ == "__main__":
    sys.stdout.write("\n".join(devices()) + "\n")
