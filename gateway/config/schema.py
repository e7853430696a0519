"""JSON Schemas and tables of the files people write, made from the models that read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from gateway.config.profile_shape import PointBody, ProfileShape, TerminalPointShape
from gateway.config.shape import Quantity, Shape, models_in
from gateway.config.site_shape import SiteShape
from gateway.model.units import UNITS

DRAFT = "http://json-schema.org/draft-07/schema#"
MODELS: dict[str, type[Shape]] = {"config": SiteShape, "profile": ProfileShape}
FREE_BLOCKS = "each_terminal.blocks"  # one key inside, names of choice in the file
TITLES = {"config": "Site file of sop-gateway", "profile": "Device profile of sop-gateway"}


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of a site file (``config``) or a ``profile``."""
    found = MODELS[kind].model_json_schema(by_alias=True)
    if kind == "profile":
        _for_profiles(found)
    return {"$schema": DRAFT, **_without_titles(found), "title": TITLES[kind]}


def _for_profiles(found: dict[str, Any]) -> None:
    """Say in the schema what is resolved before the shape is checked."""
    like = {"type": "string", "description": "Copy all but what is given from this point"}
    for name in ("PointShape", "TerminalPointShape"):
        found["$defs"][name]["properties"]["like"] = like
    each = found["$defs"]["EachTerminalShape"]
    blocks = each["properties"].pop("blocks")
    each["additionalProperties"] = blocks["additionalProperties"]


def _without_titles(node: Any) -> Any:
    """Drop the titles pydantic makes of names: they say nothing."""
    if isinstance(node, dict):
        return {
            k: _without_titles(v)
            for k, v in node.items()
            if not (k == "title" and isinstance(v, str))
        }
    return [_without_titles(item) for item in node] if isinstance(node, list) else node


def schema_text(kind: str) -> str:
    """Return the schema as the shipped file has it."""
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"


def shipped_folder() -> Path:
    """Return where the shipped schemas lie, the source tree first."""
    tree = Path(__file__).resolve().parents[2] / "configs" / "schema"
    return tree if tree.is_dir() else Path(sys.prefix) / "share" / "sopgw" / "schema"


def output_schemas() -> dict[str, Any]:
    """Return the schemas of the answers with --json, by name."""
    folder = shipped_folder() / "output"
    return {
        path.name.removesuffix(".schema.json"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.schema.json"))
    }


def rows_of(kind: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield ``(key, example, default, trust, meaning)`` of every key, nested ones with dots."""
    yield from _rows(MODELS[kind], "")


def _rows(model: type[Shape], prefix: str) -> Iterator[tuple[str, str, str, str, str]]:
    for name, info in model.model_fields.items():
        if model is TerminalPointShape and name in PointBody.model_fields:
            continue  # the same as of any point, shown there
        inner = next((m for m in models_in(info.annotation) if m is not model), None)
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        example = str(info.examples[0]) if info.examples else ""
        default = "required" if info.is_required() else _default(info)
        if inner is not None:
            example = "" if "…" in example else example
            default = default if default == "required" else ""
        if (key := prefix + name) != FREE_BLOCKS:
            yield key, example, default, str(extra.get("trust", "")), str(info.description or "")
        if inner is not None:
            kind = str(info.annotation)
            step = ".<name>." if "dict[" in kind else "[]." if "tuple[" in kind else "."
            if key == FREE_BLOCKS:
                key, step = "each_terminal", ".<block>."
            yield from _rows(inner, key + step)


def _default(info: FieldInfo) -> str:
    value = info.get_default(call_default_factory=True, validated_data={})
    if value is None or value == "":
        return "–"
    for mark in info.metadata:
        if isinstance(mark, Quantity):
            return _quantity(Decimal(value) / mark.scale, mark.dimension)
    if isinstance(value, tuple | dict):
        return f"[{', '.join(map(str, value))}]" if value else "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quantity(amount: Decimal, dimension: str) -> str:
    """Write a default the way a file would."""
    if dimension == "ratio":
        return f"{amount * 100:f} %"
    if dimension == "time" and amount < 1:
        return f"{amount * 1000:f} ms"
    return f"{amount:f} {next(iter(UNITS[dimension])) if dimension != 'time' else 's'}"


def table_of(kind: str) -> str:
    """Write every key as a Markdown table; the column of trust only where it is said."""
    rows = list(rows_of(kind))
    trusted = any(trust for _, _, _, trust, _ in rows)
    head = ["key", "example", "default", *(["trust"] if trusted else []), "meaning"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for key, example, default, trust, meaning in rows:
        cells = [f"`{key}`", f"`{example}`" if example else "", default]
        cells += [trust] if trusted else []
        lines.append(f"| {' | '.join([*cells, meaning])} |")
    return "\n".join(lines)
