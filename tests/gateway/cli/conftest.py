"""Runs the program in this process and holds its answers against the shipped schemas."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.__main__ import main

ROOT = Path(__file__).resolve().parents[3]
OUTPUT = ROOT / "configs" / "schema" / "output"
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
        name = answer["schema"].removeprefix("sopgw/v1/")
        if answer["ok"] or answer["data"]:
            assert list(differences(schema_of(name), answer["data"])) == []
        return answer


@pytest.fixture
def schema_differences():
    """The schema checker itself."""
    return lambda schema, value: list(differences(schema, value))


@pytest.fixture
def sopgw(capsys):
    """Run the program in this process: ``sopgw("config", "check", path)``."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        caught = capsys.readouterr()
        return Answer(code, caught.out, caught.err)

    return run
