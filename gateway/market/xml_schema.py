"""A small XML Schema validator for our own profiles: sequences, attributes and restricted text.

Knows exactly the constructs our schemas use and refuses a schema that uses others, so that
nothing passes because it was not understood.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

XS = "{http://www.w3.org/2001/XMLSchema}"
HERE = Path(__file__).parent / "schemas"

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")


class SchemaError(ValueError):
    """The schema itself uses something this validator does not know."""


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    type: str
    count_min: int
    count_max: int | None


@dataclass(frozen=True, slots=True)
class _Complex:
    children: tuple[_Child, ...]
    text_type: str | None
    attributes: Mapping[str, str]  # name -> simple type; all required


class Schema:
    """A schema that was understood in full."""

    def __init__(self, text: str) -> None:
        root = ET.fromstring(text)  # noqa: S314 - our own file
        _expect(root, "schema")
        self._namespace = f"{{{root.attrib['targetNamespace']}}}"
        self._simple: dict[str, Callable[[str], str]] = {}
        self._complex: dict[str, _Complex] = {}
        self._roots: dict[str, str] = {}
        for item in root:
            name = item.attrib.get("name", "")
            if item.tag == f"{XS}element":
                self._roots[self._namespace + name] = item.attrib["type"]
            elif item.tag == f"{XS}simpleType":
                self._simple[name] = _simple(item)
            elif item.tag == f"{XS}complexType":
                self._complex[name] = self._read_complex(item)
            else:
                raise SchemaError(f"{item.tag} is not known here")

    @classmethod
    def load(cls, name: str) -> Schema:
        """Load a schema that ships with this package."""
        return cls((HERE / name).read_text(encoding="utf-8"))

    def faults(self, document: bytes) -> list[str]:
        """Return every violation with its path; none means the document is valid."""
        if b"<!DOCTYPE" in document:
            return ["/: a document type definition is not accepted"]
        try:
            root = ET.fromstring(document)  # noqa: S314 - no DTD, so no entities to expand
        except (ET.ParseError, LookupError, ValueError) as error:  # or an encoding it has not
            return [f"/: not XML: {error}"]
        if root.tag not in self._roots:
            return [f"/: {root.tag} is not the root of this schema"]
        found: list[str] = []
        self._check(root, self._roots[root.tag], f"/{_local(root.tag)}", found)
        return found

    def _read_complex(self, item: ET.Element) -> _Complex:
        (content,) = item
        if content.tag == f"{XS}sequence":
            for child in content:
                _expect(child, "element")
            return _Complex(tuple(self._read_child(c) for c in content), None, {})
        _expect(content, "simpleContent")
        (extension,) = content
        _expect(extension, "extension")
        for attribute in extension:
            _expect(attribute, "attribute")
            if attribute.attrib.get("use") != "required":
                raise SchemaError("an attribute that is not required is not known here")
        attributes = {a.attrib["name"]: a.attrib["type"] for a in extension}
        return _Complex((), extension.attrib["base"], attributes)

    def _read_child(self, item: ET.Element) -> _Child:
        most = item.attrib.get("maxOccurs", "1")
        return _Child(
            self._namespace + item.attrib["name"],
            item.attrib["type"],
            int(item.attrib.get("minOccurs", "1")),
            None if most == "unbounded" else int(most),
        )

    def _check(self, element: ET.Element, kind: str, path: str, found: list[str]) -> None:
        shape = self._complex.get(kind) or _Complex((), kind, {})
        for name in element.attrib.keys() - shape.attributes.keys():
            found.append(f"{path}/@{name}: not in the schema")
        for name, simple in shape.attributes.items():
            if name not in element.attrib:
                found.append(f"{path}/@{name}: missing")
            elif wrong := self._simple[simple](element.attrib[name]):
                found.append(f"{path}/@{name}: {wrong}")
        if shape.text_type is not None:
            if len(element):
                found.append(f"{path}: has elements where text belongs")
            elif wrong := self._simple[shape.text_type](element.text or ""):
                found.append(f"{path}: {wrong}")
            return
        if (element.text or "").strip() or any((c.tail or "").strip() for c in element):
            found.append(f"{path}: has text between its elements")
        self._check_sequence(element, shape, path, found)

    def _check_sequence(
        self, element: ET.Element, shape: _Complex, path: str, found: list[str]
    ) -> None:
        rest = list(element)
        for child in shape.children:
            name = _local(child.name)
            count = 0
            while rest and rest[0].tag == child.name:
                count += 1
                self._check(rest.pop(0), child.type, f"{path}/{name}[{count}]", found)
            if count < child.count_min:
                found.append(f"{path}/{name}: missing, or not in its place")
            elif child.count_max is not None and count > child.count_max:
                found.append(f"{path}/{name}: {count} times, at most {child.count_max}")
        found.extend(f"{path}/{_local(extra.tag)}: not expected here" for extra in rest)


def _simple(item: ET.Element) -> Callable[[str], str]:
    """Return a check of text: empty when it fits, else what is wrong with it."""
    (restriction,) = item
    _expect(restriction, "restriction")
    base = restriction.attrib["base"]
    if base not in ("xs:string", "xs:integer", "xs:decimal"):
        raise SchemaError(f"{base} is not known here")
    facets = [(f.tag.removeprefix(XS), f.attrib["value"]) for f in restriction]
    allowed = tuple(value for name, value in facets if name == "enumeration")
    rules = tuple((n, _rule(n, v)) for n, v in facets if n != "enumeration")

    def check(text: str) -> str:
        if base == "xs:integer" and not _INTEGER.fullmatch(text):
            return f"{text!r} is no integer"
        if base == "xs:decimal" and not _DECIMAL.fullmatch(text):
            return f"{text!r} is no decimal number"
        if allowed and text not in allowed:
            return f"{text!r} is none of {', '.join(allowed)}"
        broken = [name for name, rule in rules if not rule(text)]
        return f"{text!r} breaks {', '.join(broken)}" if broken else ""

    return check


def _rule(name: str, value: str) -> Callable[[str], bool]:
    match name:
        case "pattern":
            pattern = re.compile(value, re.ASCII)
            return lambda text: pattern.fullmatch(text) is not None
        case "minLength":
            return lambda text: len(text) >= int(value)
        case "maxLength":
            return lambda text: len(text) <= int(value)
        case "minInclusive":
            return lambda text: Decimal(text) >= Decimal(value)
        case "maxInclusive":
            return lambda text: Decimal(text) <= Decimal(value)
        case "fractionDigits":
            return lambda text: len(text.partition(".")[2].rstrip("0")) <= int(value)
        case _:
            raise SchemaError(f"facet {name} is not known here")


def _expect(item: ET.Element, name: str) -> None:
    if item.tag != XS + name:
        raise SchemaError(f"{item.tag} where {name} belongs")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
