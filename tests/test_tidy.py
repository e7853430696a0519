"""House rules a linter cannot express: units in names, short functions, tests mirroring modules."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UNITS = (
    "_w", "_var", "_va", "_wh", "_varh", "_v", "_dv", "_a", "_da", "_hz", "_pct", "_s", "_ms", "_us",
    "_ds", "_ucur", "_ncur", "_celsius", "_ppm", "_permille", "_km", "_ohm", "_pu", "_f", "_j", "_rad",
    "_deg", "_ns", "_bytes", "_baud", "_m", "_kw", "_kvar", "_kwh", "_mwh",
)  # fmt: skip
DIMENSIONLESS = (
    "_count", "_index", "_size", "_seq", "_version", "_ratio", "_code", "_port", "_id", "_level",
    "_number", "_position", "_bits", "_seed", "_address", "_mode", "_factor", "_exponent", "_length",
    "_offset", "_height", "_width", "_percent", "_levels", "_step", "_quorum", "_owner",
)  # fmt: skip
PLAIN = {"id", "index", "unit", "port", "seed", "size", "count", "code", "width", "length", "scale", "address", "value", "level", "seq", "line", "column", "format", "segment", "tree_end"}  # fmt: skip
QUALIFIERS = ("_max", "_min", "_mean", "_nominal", "_start", "_end", "_available", "_active", "_received", "_set", "_per_s", "_per_kwh")  # fmt: skip
LINES_MAX = 70
FILE_LINES_MAX = 500


def sources(*packages):
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def numeric_fields_without_unit(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if not (isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)):
                    continue
                # A container says in its docstring what it holds; a number says it in its name.
                if any(isinstance(n, ast.Subscript) for n in ast.walk(item.annotation)):
                    continue
                kinds = {n.id for n in ast.walk(item.annotation) if isinstance(n, ast.Name)}
                name = item.target.id.lower().lstrip("_")
                if name in PLAIN or (name.endswith("_max") and name.removesuffix("_max") in PLAIN):
                    continue
                for _ in range(3):
                    for qualifier in QUALIFIERS:
                        name = name.removesuffix(qualifier)
                if kinds & {"int", "float", "Decimal"} and not ("_" + name).endswith(
                    UNITS + DIMENSIONLESS
                ):
                    yield f"{path.relative_to(ROOT)}:{item.lineno} {item.target.id}"


def test_numeric_fields_carry_their_unit():
    # Fields of a *_shape module are the keys of a file, where the value itself carries the unit.
    files = (p for p in sources("gateway", "ledger", "firmware_sim") if "_shape" not in p.stem)
    assert [f for p in files for f in numeric_fields_without_unit(p)] == []


def test_functions_fit_on_a_screen():
    long = [
        f"{p.relative_to(ROOT)}:{n.lineno} {n.name} {n.end_lineno - n.lineno + 1} lines"
        for p in sources("gateway", "ledger", "firmware_sim")
        for n in ast.walk(ast.parse(p.read_text()))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        and n.end_lineno - n.lineno + 1 > LINES_MAX
    ]
    assert long == []


def test_files_keep_to_one_purpose():
    long = [
        f"{p.relative_to(ROOT)} {len(p.read_text().splitlines())} lines"
        for p in sources("gateway", "ledger", "firmware_sim")
        if len(p.read_text().splitlines()) > FILE_LINES_MAX
    ]
    assert long == []


def test_core_defines_only_synchronous_functions():
    found = [
        f"{p.relative_to(ROOT)}:{n.lineno}"
        for p in sources("gateway/core", "gateway/model", "ledger/contracts")
        for n in ast.walk(ast.parse(p.read_text()))
        if isinstance(n, ast.AsyncFunctionDef | ast.Await | ast.Global)
    ]
    assert found == []


def test_every_module_of_the_core_and_the_contracts_has_its_test_module():
    missing = [
        str(p.relative_to(ROOT))
        for package in ("gateway/core", "ledger/contracts", "ledger/log")
        for p in sources(package)
        if p.name != "__init__.py" and not (ROOT / "tests" / package / f"test_{p.name}").exists()
    ]
    assert missing == []


def test_no_module_is_named_after_nothing():
    banned = {"utils", "helpers", "common", "manager", "handler", "base", "misc", "helper", "util"}
    found = [
        str(p.relative_to(ROOT))
        for p in sources("gateway", "ledger", "firmware_sim")
        if p.stem in banned
    ]
    assert found == []


def test_nothing_that_runs_what_it_reads():
    """No eval, no pickle, no YAML that makes objects, no shell (docs/security.md, SAR 3.2)."""
    modules = {"pickle", "marshal", "shelve", "dill", "code", "codeop"}
    calls = {"eval", "exec", "compile", "__import__"}
    methods = {"os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    found = []
    for path in sources("gateway", "ledger"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    wrong = modules & {n.name.partition(".")[0] for n in names}
                case ast.ImportFrom(module=str(module)):
                    wrong = modules & {module.partition(".")[0]}
                case ast.Call(func=ast.Name(id=name)):
                    wrong = calls & {name}
                case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr=name)):
                    wrong = methods & {f"{of}.{name}"}
                case ast.keyword(arg="shell"):
                    wrong = {"shell"}
                case _:
                    continue
            if wrong:
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)} {wrong}")
    assert found == []


def test_no_broad_except_and_no_unfinished_marks():
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
    found = [
        f"{p.relative_to(ROOT)}:{number}"
        for p in sources("gateway", "ledger", "firmware_sim")
        for number, line in enumerate(p.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []
