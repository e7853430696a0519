"""Runs the program in this process and holds its answers against the shipped schemas.

Every answer that any test here provokes is held against ``configs/schema/output/<name>.schema.json``
where that is shipped. For a new command, or after a change of an answer,
``SOPGW_WRITE_SCHEMAS=1 pytest tests/gateway/cli`` writes or widens the files by what was seen; read
the difference before committing it.
"""

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fakes.new_trade import NEW

from gateway.__main__ import main
from gateway.cli import output
from gateway.cli.man import walk
from gateway.cli.output import SopCommand
from gateway.cli.root import cli
from gateway.config import profile_file

ROOT = Path(__file__).resolve().parents[3]
OUTPUT = ROOT / "configs" / "schema" / "output"
CONTEXT = cli.make_context("sopgw", [], resilient_parsing=True)
DRAFT = "http://json-schema.org/draft-07/schema#"
KINDS = {
    "object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None),
    "number": (int, float),
}  # fmt: skip


def differences(schema, value, path="$"):
    """Say where a value differs from a JSON Schema (the words our schemas use)."""
    kinds = schema.get("type")
    if kinds is not None:
        wanted = [kinds] if isinstance(kinds, str) else kinds
        fits = any(
            isinstance(value, KINDS[k]) and (k == "boolean" or not isinstance(value, bool))
            for k in wanted
        )
        if not fits:
            yield f"{path}: {value!r} is not {kinds}"
            return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not look like {schema['pattern']}"
    if isinstance(value, dict):
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", True)
        yield from (f"{path}.{k} is missing" for k in schema.get("required", ()) if k not in value)
        for key, inner in value.items():
            if key in known:
                yield from differences(known[key], inner, f"{path}.{key}")
            elif rest is False:
                yield f"{path}.{key} is unknown"
            elif isinstance(rest, dict):
                yield from differences(rest, inner, f"{path}.{key}")
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from differences(schema.get("items", {}), inner, f"{path}[{index}]")


def schema_of(name):
    """Return a shipped schema; an answer without one may hold any object."""
    path = OUTPUT / f"{name}.schema.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"type": "object"}


def kind_of(value):
    """Name the JSON type of a value."""
    for kind, python in (
        ("null", type(None)),
        ("boolean", bool),
        ("integer", int),
        ("number", float),
    ):
        if isinstance(value, python):
            return kind
    return {str: "string", list: "array", dict: "object"}[type(value)]


def widened(schema, value):
    """Return the schema that also admits a value; keys not always there are not required."""
    kinds = schema.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    first = not kinds
    kinds.add(kind_of(value))
    if "number" in kinds:
        kinds.discard("integer")
    made = {**schema, "type": min(kinds) if len(kinds) == 1 else sorted(kinds)}
    if isinstance(value, dict):
        known = made.get("properties", {})
        rest = made.get("additionalProperties")
        if isinstance(rest, dict):
            for inner in value.values():
                rest = widened(rest, inner)
            return {**made, "additionalProperties": rest}
        made["properties"] = {
            **known,
            **{k: widened(known.get(k, {}), v) for k, v in value.items()},
        }
        required = list(value) if first else [k for k in made.get("required", []) if k in value]
        made["required"] = required
    if isinstance(value, list):
        items = made.get("items", {})
        for inner in value:
            items = widened(items, inner)
        made["items"] = items
    return made


def held_or_written(text):
    """Say where an answer differs from its shipped schema, or widen the schema when asked to."""
    answer = json.loads(text)
    name = answer["schema"].removeprefix("sopgw/v1/")
    path = OUTPUT / f"{name}.schema.json"
    known = {
        found.schema: context.command_path
        for context, found in walk(cli, CONTEXT)
        if isinstance(found, SopCommand)
    }
    if name not in known or not (answer["ok"] or (answer["data"] and path.exists())):
        return []
    head = {"$schema": DRAFT, "title": f"`data` of {known[name]} --json"}
    schema = json.loads(path.read_text(encoding="utf-8")) if path.exists() else head
    if not answer["ok"]:  # says what it can, not all that was asked for
        schema = {**schema, "required": []}
    found = list(differences(schema, answer["data"])) if path.exists() else []
    if (found or not path.exists()) and os.environ.get("SOPGW_WRITE_SCHEMAS"):
        made = widened(schema, answer["data"])
        if not answer["ok"]:
            made["required"] = json.loads(path.read_text(encoding="utf-8")).get("required", [])
        path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return []
    return [f"{path.name} (see the head of conftest.py): {d}" for d in found]


@pytest.fixture(autouse=True, scope="session")
def shipped_profiles_are_parsed_once():
    """Commands run in this process hundreds of times; a shipped profile stays the same meanwhile."""
    parse, known = profile_file.check_profile, {}

    def check_profile(path, **options):
        if path.resolve().parent != ROOT / "configs" / "profiles":
            return parse(path, **options)
        key = (path, path.read_bytes(), *options.items())
        if key not in known:
            known[key] = parse(path, **options)
        document, profile = known[key]
        return replace(document, problems=list(document.problems)), profile

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_file, "check_profile", check_profile)
        yield


@pytest.fixture(autouse=True)
def every_answer_keeps_its_schema(monkeypatch):
    """Look at each answer as it is made; tell at the end, for the program catches what is raised."""
    make, found = output.envelope, []

    def envelope(*arguments, **named):
        text = make(*arguments, **named)
        found.extend(held_or_written(text))
        return text

    monkeypatch.setattr(output, "envelope", envelope)
    yield
    assert found == []


@dataclass(frozen=True)
class Answer:
    """How a run ended and what it said."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self):
        """The one object on stdout, held against the shipped schemas."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        answer = json.loads(lines[0])
        assert list(differences(schema_of("envelope"), answer)) == []
        assert answer["exit_code"] == self.exit_code
        assert answer["ok"] == (self.exit_code == 0)
        assert answer["ok"] or answer["errors"], "a failure says why"
        return answer


@pytest.fixture
def schema_differences():
    """The schema checker itself."""
    return lambda schema, value: list(differences(schema, value))


@pytest.fixture(name="schema_of")
def schema_of_name():
    """The schema of an output by its name."""
    return schema_of


@pytest.fixture(autouse=True)
def state_of_nobody(monkeypatch, tmp_path):
    """What programs keep for their user is kept with the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def sopgw(capsys):
    """Run the program in this process: ``sopgw("config", "check", path)``."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        caught = capsys.readouterr()
        return Answer(code, caught.out, caught.err)

    return run


@pytest.fixture
def trade(capsys):
    """Run ``sopgw trade`` in this process; gives the exit code and the answer."""

    def call(*arguments):
        code = main(["trade", *map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def signed(tmp_path, trade):
    """A signed trade, its key ``market.pem`` beside it."""
    assert trade("keygen", tmp_path / "market.pem")[0] == 0
    path = tmp_path / "trd-1.json"
    assert trade("sign", *NEW, "--key", tmp_path / "market.pem", "-o", path)[0] == 0
    return path
