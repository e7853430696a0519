"""Holds a read document against a pydantic model and says every difference in plain words.

Imported only where a file is read: pydantic costs tens of milliseconds.
"""

from __future__ import annotations

import re
import types
import typing
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic_core import CoreSchema, ErrorDetails, PydanticCustomError, core_schema
from typing_extensions import override

from gateway.config.yaml_reader import Document, Node, nearest
from gateway.model.units import UNITS, UnitError, parse_quantity

UNKNOWN_KEY, MISSING, UNIT, KIND, WORD, RANGE, NAME = 10, 11, 12, 13, 14, 15, 16
_OWN = {
    "unit": UNIT,
    "kind": KIND,
    "word": WORD,
    "range": RANGE,
    "name": NAME,
    "missing_part": MISSING,
}
MESSAGE_LENGTH_MAX = 80  # of a value quoted back


class Shape(pydantic.BaseModel):
    """A map whose keys are all known; unknown ones are mistakes."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, strict=False, arbitrary_types_allowed=True
    )


S = TypeVar("S", bound=Shape)
# A whole number as such: `true` is no index and `1.0` no count.
Whole = Annotated[int, pydantic.Strict()]


def wrong(
    kind: str, message: str, help_text: str = "", *, secret: bool = False
) -> PydanticCustomError:
    """Make an error of ours; ``kind`` is one of unit, kind, word, range, name, missing_part."""
    escaped = message.replace("{", "(").replace("}", ")")
    return PydanticCustomError(kind, escaped, {"help": help_text, "secret": secret})


def quoted(value: Any) -> str:
    """Quote a value of the file, shortened."""
    text = str(value)
    return f"“{text if len(text) <= MESSAGE_LENGTH_MAX else text[:MESSAGE_LENGTH_MAX] + '…'}”"


def _example(dimension: str, low: Decimal | None) -> str:
    unit = next(
        iter(u for u in UNITS[dimension] if u.startswith("k")), next(iter(UNITS[dimension]))
    )
    return f"{low or 20} {unit}"


def read_quantity(value: Any, dimension: str) -> Decimal:
    """Read a quantity of a file; raise the error of ours."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise wrong(
            "kind",
            "a quantity is wanted here",
            f"write a number with its unit, like `{_example(dimension, None)}`",
        )
    try:
        return parse_quantity(str(value), dimension)
    except UnitError as error:
        raise wrong("unit", str(error), error.help) from None


def described(description: str, *, trust: str = "", example: str = "", **more: Any) -> Any:
    """A documented key: what it is, who must be trusted with it, an example."""
    return pydantic.Field(
        description=description,
        examples=[example] if example else None,
        json_schema_extra={"trust": trust} if trust else None,
        **more,
    )


@dataclass(frozen=True, slots=True)
class Reader:
    """Marks a pydantic field whose text ``read`` turns into a value."""

    def read(self, value: Any) -> Any:
        """Return the value or raise one of our errors."""
        raise wrong("kind", f"{quoted(value)} cannot be read here")

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the text."""
        return {}

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return self.json_schema()


@dataclass(frozen=True, slots=True)
class Quantity(Reader):
    """A text with a unit, read as a whole number of 1/``scale`` base units."""

    dimension: str
    scale: int = 1
    bounds: tuple[str, str] | None = None

    @override
    def read(self, value: Any) -> int:
        amount = read_quantity(value, self.dimension)
        if self.bounds is not None:
            low, high = (parse_quantity(b, self.dimension) for b in self.bounds)
            if not low <= amount <= high:
                raise wrong(
                    "range",
                    f"{value} is outside {self.bounds[0]} … {self.bounds[1]}",
                    f"write a value from {self.bounds[0]} to {self.bounds[1]}",
                )
        scaled = amount * self.scale
        if scaled != scaled.to_integral_value():
            raise wrong("unit", f"{value} is finer than the gateway keeps", "round it")
        return int(scaled)

    @override
    def json_schema(self) -> dict[str, Any]:
        units = "|".join(u.replace("/", "\\/") for u in UNITS[self.dimension])
        schema = {"type": "string", "pattern": rf"^\s*[+\-−]?[0-9]+(\.[0-9]+)?\s*({units})\s*$"}
        if self.bounds is not None:
            schema["description"] = f"{self.bounds[0]} to {self.bounds[1]}"
        return schema


@dataclass(frozen=True, slots=True)
class Exact(Reader):
    """A text with a unit, read as an exact Decimal in base units."""

    dimension: str

    @override
    def read(self, value: Any) -> Decimal:
        return read_quantity(value, self.dimension)

    @override
    def json_schema(self) -> dict[str, Any]:
        return Quantity(self.dimension).json_schema()


@dataclass(frozen=True, slots=True)
class Span(Reader):
    """A list ``[low, high]`` of quantities."""

    dimension: str
    scale: int = 1
    bounds: tuple[str, str] | None = None

    @override
    def read(self, value: Any) -> tuple[int, int]:
        if not isinstance(value, list) or len(value) != 2:
            example = _example(self.dimension, None)
            raise wrong(
                "kind",
                "a range `[low, high]` is wanted here",
                f"write two quantities in brackets, like `[0 {example.split()[1]}, {example}]`",
            )
        one = Quantity(self.dimension, self.scale, self.bounds)
        low, high = (one.read(v) for v in value)
        if low >= high:
            raise wrong(
                "range",
                f"the range [{value[0]}, {value[1]}] is upside down",
                f"write the lower value first: `[{value[1]}, {value[0]}]`",
            )
        return low, high

    @override
    def json_schema(self) -> dict[str, Any]:
        item = Quantity(self.dimension, self.scale, self.bounds).json_schema()
        return {"type": "array", "items": item, "minItems": 2, "maxItems": 2}


SAID_APART = "take out what stands before the `@`; names and passwords have keys of their own"


@dataclass(frozen=True, slots=True)
class Word(Reader):
    """A text that must look a certain way."""

    pattern: str
    what: str
    example: str

    @override
    def read(self, value: Any) -> str:
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
        if text and "@" in text.partition("://")[2].partition("/")[0].partition("?")[0]:
            # A password may stand before it: nothing of it is repeated.
            raise wrong("name", f"{self.what} holds no name and password", SAID_APART, secret=True)
        if text is None or not re.fullmatch(self.pattern, text, re.ASCII):
            # Behind the `?` of an address a password may stand.
            place, mark, _ = str(value).partition("?")
            hidden = bool(mark) and "://" in place
            raise wrong(
                "name",
                f"{quoted(place + '?…' if hidden else value)} is not {self.what}",
                f"write something like `{self.example}`",
                secret=hidden,
            )
        return text

    @override
    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({self.pattern})$", "examples": [self.example]}


def held_against(document: Document, model: type[S], node: Node | None = None) -> S | None:
    """Return the model when the document (or a part of it) has its shape, else note problems."""
    root = node or document.root
    if root is None or root.kind != "map":
        return None
    try:
        return model.model_validate(root.data())
    except pydantic.ValidationError as found:
        for error in _telling(model, found.errors(include_url=False, include_input=True)):
            _note(document, model, root, error)
    return None


def _telling(model: type[Shape], errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out what only follows: a key missing because it is misspelt, a list of bad items."""
    misspelt = set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            parent = _model_at(model, list(error["loc"][:-1]))
            near = nearest(str(error["loc"][-1]), parent.model_fields if parent else ())
            misspelt.add((*error["loc"][:-1], near))
    return [
        e
        for e in errors
        if not (e["type"] == "missing" and e["loc"] in misspelt)
        and not (
            e["type"] == "too_short"
            and any(o is not e and o["loc"][: len(e["loc"])] == e["loc"] for o in errors)
        )
    ]


def _note(document: Document, model: type[Shape], root: Node, error: ErrorDetails) -> None:
    kind = error["type"]
    path = [step for step in error["loc"] if not _is_tag(step)]
    node, key, depth = _reached(root, path)
    name = str(path[-1]) if path else "?"
    parent = _model_at(model, path[:-1])
    secret = bool((error.get("ctx") or {}).get("secret")) or (
        parent is not None and parent.__name__ == "SecretShape"
    )
    if kind == "extra_forbidden":
        known = [_alias(n, f) for n, f in parent.model_fields.items()] if parent else []
        near = nearest(name, known)
        help_text = f"did you mean `{near}`?" if near else f"known here: {', '.join(known)}"
        document.add(
            UNKNOWN_KEY, f"unknown key {quoted(name)}", key or node, help=help_text, secret=secret
        )
    elif kind == "missing" and depth < len(path):
        where = ".".join(str(p) for p in path[:-1])
        field = _field_at(model, path)
        example = field.examples[0] if field is not None and field.examples else "…"
        message = f"key `{name}` is missing" + (f" in {quoted(where)}" if where else "")
        document.add(MISSING, message, key or node, help=f"add `{name}: {example}`")
    elif kind in _OWN:
        context = error.get("ctx") or {}
        document.add(
            _OWN[kind], error["msg"], node, help=str(context.get("help", "")), secret=secret
        )
    elif kind in ("literal_error", "enum"):
        words = _words(str((error.get("ctx") or {}).get("expected", "")))
        near = nearest(str(error["input"]), words)
        help_text = f"did you mean `{near}`? " if near else ""
        document.add(
            WORD,
            f"{quoted(error['input'])} is not a word for `{name}`",
            node,
            help=help_text + f"one of: {', '.join(words)}",
            secret=secret,
        )
    else:
        message, help_text = _plain(error)
        document.add(KIND, f"`{name}`: {message}", node, help=help_text, secret=secret)


def _plain(error: ErrorDetails) -> tuple[str, str]:
    """Say pydantic's own findings in our words."""
    kind = error["type"]
    context = error.get("ctx") or {}
    wanted = {
        "string_type": (
            "text is wanted here",
            "write text; put it in quotes when it looks like a number",
        ),
        "int_type": ("a whole number is wanted here", "write digits only, no zero first"),
        "int_parsing": ("a whole number is wanted here", "write digits only, no zero first"),
        "int_from_float": ("a whole number is wanted here", "write it without a fraction"),
        "decimal_type": ("a number is wanted here", "write digits, like `0.1`"),
        "decimal_parsing": ("a number is wanted here", "write digits, like `0.1`"),
        "bool_type": ("`true` or `false` is wanted here", "write `true` or `false`"),
        "bool_parsing": ("`true` or `false` is wanted here", "write `true` or `false`"),
        "list_type": ("a list is wanted here", "write `[a, b]`"),
        "tuple_type": ("a list is wanted here", "write `[a, b]`"),
        "dict_type": (
            "a map of keys is wanted here",
            "write `{key: value}` or indent the keys below it",
        ),
        "model_type": (
            "a map of keys is wanted here",
            "write `{key: value}` or indent the keys below it",
        ),
    }
    if kind in wanted:
        return wanted[kind]
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        sign, limit = next((s, context[s]) for s in ("ge", "gt", "le", "lt") if s in context)
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}[sign]
        return f"{error['input']} is out of range", f"write {words} {limit}"
    if kind in ("too_short", "too_long"):
        word = "at least" if kind == "too_short" else "at most"
        number = context.get("min_length", context.get("max_length"))
        return "wrong number of entries", f"write {word} {number}"
    return error["msg"][0].lower() + error["msg"][1:], ""


def _words(expected: str) -> list[str]:
    return [w.strip().strip("'") for w in expected.replace(" or ", ",").split(",") if w.strip()]


def _is_tag(step: str | int) -> bool:
    """Union members and validators leave names of theirs in the path."""
    return isinstance(step, str) and (
        step.startswith(("function-", "literal[", "list[", "dict[", "tagged-")) or step == "[key]"
    )


def _reached(root: Node, path: list[Any]) -> tuple[Node, Node | None, int]:
    """Go as far along the path as the file goes; the value, its key, and how far."""
    node, key = root, None
    for depth, step in enumerate(path):
        found = node.get(step)
        if found is None:
            return node, key, depth
        key = node.key(step) if node.kind == "map" else None
        node = found
    return node, key, len(path)


def _alias(name: str, info: pydantic.fields.FieldInfo) -> str:
    return info.alias or name


def models_in(annotation: Any) -> list[Any]:
    """Return the shapes inside a type, outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return [annotation]
    found = []
    for part in typing.get_args(annotation):
        if not isinstance(part, types.NoneType):
            found += models_in(part)
    return found


def _field_at(model: type[Shape] | None, path: list[Any]) -> pydantic.fields.FieldInfo | None:
    parent = _model_at(model, path[:-1]) if path else None
    return _field(parent, path[-1]) if parent else None


def _field(model: type[Shape], step: Any) -> pydantic.fields.FieldInfo | None:
    for name, info in model.model_fields.items():
        if step in (name, info.alias):
            return info
    return None


def _model_at(model: type[Shape] | None, path: list[Any]) -> type[Shape] | None:
    """Find the model that describes the map at ``path``."""
    current = model
    for step in path:
        if current is None:
            return None
        info = _field(current, step)
        if info is None:
            continue  # a name in a map of models, or a place in a list: the model stays
        found = models_in(info.annotation)
        current = found[0] if found else None
    return current
