"""Makes a first profile from a table of registers; a person reads, corrects and tests it."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

from gateway.config.profile_points import REGISTER_COUNT_OF
from gateway.config.yaml_reader import Document, Node
from gateway.model.units import DIMENSION_OF

# What makers call their columns.
COLUMNS = {
    "name": ("name", "point", "parameter", "variable", "signal"),
    "reg": ("reg", "register", "address", "addr", "wire"),
    "doc": ("doc", "number", "manual", "modicon"),
    "type": ("type", "datatype", "data type", "format"),
    "unit": ("unit", "units", "uom"),
    "scale": ("scale", "factor", "multiplier", "gain"),
    "access": ("access", "rw", "r/w", "mode"),
    "table": ("table", "space", "function", "area"),
}
TYPES = {
    "u16": "uint16",
    "s16": "int16",
    "i16": "int16",
    "word": "uint16",
    "short": "int16",
    "u32": "uint32",
    "s32": "int32",
    "i32": "int32",
    "dword": "uint32",
    "long": "int32",
    "u64": "uint64",
    "s64": "int64",
    "i64": "int64",
    "f32": "float32",
    "float": "float32",
    "real": "float32",
    "f64": "float64",
    "double": "float64",
    "uint": "uint16",
    "int": "int16",
}
TABLES = {
    "3": "holding",
    "03": "holding",
    "4": "input",
    "04": "input",
    "1": "coil",
    "2": "discrete",
    "hr": "holding",
    "ir": "input",
}
ROWS_MAX = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One recognised column."""

    key: str
    position_index: int


def profile_from_csv(text: str, *, file: str, name: str, kind: str) -> tuple[Document, str]:
    """Turn a table with a header into the text of a profile; problems name line and column."""
    document = Document(file=file, prefix="P", lines=text.splitlines())
    try:
        dialect = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    rows = list(csv.reader(io.StringIO(text), dialect))
    if not rows:
        document.add(1, "the table is empty", None, help="write a header and one row a register")
        return document, ""
    columns = _columns(rows[0])
    known = {c.key for c in columns}
    for key in ("name", "reg"):
        if key not in known:
            message = f"no column says the {key}"
            help_text = f"call it one of: {', '.join(COLUMNS[key])}"
            document.add(11, message, Node(kind="scalar", line=1, column=1), help=help_text)
    if document.failed:
        return document, ""
    points = [
        line
        for number, row in enumerate(rows[1 : ROWS_MAX + 1], start=2)
        if any(cell.strip() for cell in row)
        and (line := _point(document, number, row, columns)) is not None
    ]
    return document, _text(name=name, kind=kind, source=file, points=points)


def _columns(header: list[str]) -> list[_Column]:
    found: list[_Column] = []
    for index, cell in enumerate(header):
        word = cell.strip().lower().lstrip("\ufeff")
        for key, names in COLUMNS.items():
            if word in names and key not in {c.key for c in found}:
                found.append(_Column(key=key, position_index=index))
    return found


def point_name(text: str) -> str:
    """Make a point name of whatever the maker wrote."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    name = "_".join(words).lower()
    return name if name[:1].isalpha() else f"p_{name}"


def _point(document: Document, number: int, row: list[str], columns: list[_Column]) -> str | None:
    cells = {c.key: row[c.position_index].strip() for c in columns if c.position_index < len(row)}
    here = Node(kind="scalar", line=number, column=1, width=max(1, len(cells.get("name", ""))))
    register = _register(cells)
    if register is None:
        message = f"{cells.get('reg', '')!r} is not a register"
        document.add(16, message, here, help="write `holding/100`, or 100 with a column `table`")
        return None
    parts = [f"reg: {register}"]
    if cells.get("doc", "").isdigit():
        parts.append(f"doc: {cells['doc']}")
    given = cells.get("type", "").lower().replace(" ", "")
    kind = TYPES.get(given, given or "uint16")
    if kind not in REGISTER_COUNT_OF:
        document.add(
            14, f"{given!r} is not a type", here, help=f"one of: {', '.join(REGISTER_COUNT_OF)}"
        )
        return None
    parts.append(f"type: {kind}")
    scale = cells.get("scale", "")
    if scale and scale not in ("1", "1.0"):
        parts.append(f"scale: {scale}")
    unit = cells.get("unit", "")
    if unit:
        if unit not in DIMENSION_OF:
            near = next((u for u in DIMENSION_OF if u.lower() == unit.lower()), None)
            help_text = f"write `{near}`" if near else f"known units: {', '.join(DIMENSION_OF)}"
            document.add(12, f"unknown unit “{unit}”", here, help=help_text)
            return None
        parts.append(f'unit: "{unit}"' if unit[0] in "%1" else f"unit: {unit}")
    if "w" in cells.get("access", "").lower() and register.startswith(("holding", "coil")):
        parts.append("access: rw")
    return f"  {point_name(cells['name'])}: {{{', '.join(parts)}}}"


def _register(cells: dict[str, str]) -> str | None:
    text = cells.get("reg", "").lower()
    if re.fullmatch(r"(coil|discrete|input|holding)/(0x[0-9a-f]+|[0-9]+)", text):
        return text
    if not re.fullmatch(r"0x[0-9a-f]{1,4}|[0-9]{1,5}", text):
        return None
    table = cells.get("table", "").lower()
    table = TABLES.get(table, table)
    if table not in ("coil", "discrete", "input", "holding"):
        table = "holding"
    address = int(text, 16) if text.startswith("0x") else int(text)
    return f"{table}/{address}" if address <= 0xFFFF else None


def _text(*, name: str, kind: str, source: str, points: list[str]) -> str:
    sign = "import_positive" if kind == "meter" else "inject_positive"
    head = [
        "# Made from a table: hold every number against the manual, then",
        f"#   sopgw profile check {name}.yaml",
        f"profile: {name}",
        "version: 1",
        f"kind: {kind}",
        "protocol: modbus",
        f'manual: "{source.rsplit("/", 1)[-1]}"',
        "verified: {level: none}",
        "license: CC0-1.0",
        "modbus: {unit: 1, byte_order: big, word_order: big}",
        f"sign: {{p: {sign}}}",
        "defaults: {poll: 1 s}",
        "points:",
    ]
    return "\n".join([*head, *points]) + "\n"
