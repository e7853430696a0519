"""Shipped schemas and tables come from the models that read the files, and fit real files."""

import json
import re
from pathlib import Path

import pytest

from gateway.config.schema import rows_of, schema_of, schema_text, table_of
from gateway.config.yaml_reader import read_file

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "configs" / "schema"
KINDS = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def fits(value, kind):
    if kind == "number":
        return not isinstance(value, str | bool | list | dict | type(None))
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def wrong(root, schema, value, path="$"):
    """Say where a value differs, in the words of JSON Schema that pydantic writes."""
    if "$ref" in schema:
        yield from wrong(root, root["$defs"][schema["$ref"].rpartition("/")[2]], value, path)
    if "anyOf" in schema and not any(
        not list(wrong(root, s, value, path)) for s in schema["anyOf"]
    ):
        yield f"{path}: {value!r} fits nothing of anyOf"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(fits(value, k) for k in kinds):
        yield f"{path}: {value!r} is not {kinds}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        yield f"{path}: {value!r} is not {schema['const']!r}"
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        yield f"{path}: {value!r} does not look like {schema['pattern']}"
    if isinstance(value, dict):
        yield from wrong_keys(root, schema, value, path)
    if isinstance(value, list):
        for index, inner in enumerate(value):
            first = schema.get("prefixItems", [])
            item = first[index] if index < len(first) else schema.get("items", {})
            yield from wrong(root, item, inner, f"{path}[{index}]")


def wrong_keys(root, schema, value, path):
    yield from (f"{path}.{k} is missing" for k in schema.get("required", ()) if k not in value)
    patterns = schema.get("patternProperties", {})
    for key, inner in value.items():
        matched = [s for p, s in patterns.items() if re.search(p, key)]
        if key in schema.get("properties", {}):
            yield from wrong(root, schema["properties"][key], inner, f"{path}.{key}")
        elif matched:
            yield from wrong(root, matched[0], inner, f"{path}.{key}")
        elif schema.get("additionalProperties") is False:
            yield f"{path}.{key} is unknown"
        elif isinstance(schema.get("additionalProperties"), dict):
            yield from wrong(root, schema["additionalProperties"], inner, f"{path}.{key}")


def plain(value):
    """As an editor's YAML reader gives it: keys are text."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


def data_of(path):
    document = read_file(path, prefix="C")
    assert document.root is not None
    return plain(document.root.data())


@pytest.mark.parametrize("kind", ["config", "profile"])
def test_the_shipped_schema_is_current(kind):
    assert (SHIPPED / f"{kind}.schema.json").read_text(encoding="utf-8") == schema_text(kind), (
        f"sopgw config schema {kind} > configs/schema/{kind}.schema.json"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "sites").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_sites_fit_the_schema(path):
    schema = schema_of("config")
    assert list(wrong(schema, schema, data_of(path))) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs" / "profiles").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_profiles_fit_the_schema(path):
    schema = schema_of("profile")
    assert list(wrong(schema, schema, data_of(path))) == []


def test_the_schema_refuses_what_the_reader_refuses():
    schema = schema_of("config")
    data = data_of(ROOT / "configs" / "sites" / "bench4.yaml")
    data["sops"]["SOP-1"]["terminals"]["T1"]["s"] = "250 kva"
    data["markt"] = {}
    found = list(wrong(schema, schema, data))
    assert len(found) == 2
    assert "250 kva" in found[0]
    assert found[1] == "$.markt is unknown"


@pytest.mark.parametrize(
    ("kind", "page"), [("config", "configuration.md"), ("profile", "profiles.md")]
)
def test_the_table_in_the_documentation_is_current(kind, page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert f"\n{table_of(kind)}\n<!-- end -->" in text


def test_every_key_of_a_site_says_what_it_is_and_who_is_trusted():
    for key, _, _, trust, meaning in rows_of("config"):
        assert meaning, key
        assert trust in ("engineer", "market", "auditor", "operator", "dso", "secadm"), key


def test_schemas_are_json():
    for path in SHIPPED.rglob("*.json"):
        assert json.loads(path.read_text(encoding="utf-8"))["$schema"]
