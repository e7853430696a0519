"""JSON Schemas and tables of the files people write, made from the models that read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway.config.profile_shape import ProfileShape
from gateway.config.shape import Shape, models_in
from gateway.config.site_shape import SiteShape

DRAFT = "http://json-schema.org/draft-07/schema#"
MODELS: dict[str, type[Shape]] = {"config": SiteShape, "profile": ProfileShape}
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
        key = prefix + name
        inner = [m for m in models_in(info.annotation) if m is not model]
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        default = "required" if info.is_required() else _default(info.get_default())
        example = str(info.examples[0]) if info.examples else ""
        if isinstance(info.get_default(), int) and example and not example.isdigit():
            default = example  # kept in base units inside, with its unit in the file
        nested = bool(inner)
        yield (
            key,
            "" if nested and "…" in example else example,
            "" if nested and default != "required" else default,
            str(extra.get("trust", "")),
            str(info.description or ""),
        )
        for part in inner[:1]:
            text = str(info.annotation)
            step = (
                f"{key}.<name>."
                if "dict[" in text
                else f"{key}[]."
                if "tuple[" in text
                else f"{key}."
            )
            yield from _rows(part, step)


def _default(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, tuple | dict):
        return "none" if not value else str(value)
    return str(value)


def table_of(kind: str) -> str:
    """Write every key as a Markdown table."""
    lines = ["| key | example | default | trust | meaning |", "|---|---|---|---|---|"]
    for key, example, default, trust, meaning in rows_of(kind):
        shown = f"`{example}`" if example else ""
        lines.append(f"| `{key}` | {shown} | {default} | {trust} | {meaning} |")
    return "\n".join(lines)
