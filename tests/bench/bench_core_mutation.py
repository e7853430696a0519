"""Mutation testing of the core: small changes to its code, each of which its tests must notice.

python tests/bench/bench_core_mutation.py --count 60 --seed 1 --modules tracking,delivery
"""

import argparse
import ast
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 - loaded once for all children
import hypothesis  # noqa: F401
import msgspec  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]
REWRITE = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis is loaded before pytest begins
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def places(tree):
    """Every place that can be changed, in order."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, "compare"
        elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
            yield node, "operator"
        elif isinstance(node, ast.Constant) and type(node.value) is int:
            yield node, "number"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield node, "not"
        elif isinstance(node, ast.Return) and ast.unparse(node) not in ("return", "return None"):
            yield node, "return"


def mutate(source, number):
    """Return the source with its ``number``-th place changed, and where."""
    tree = ast.parse(source)
    node, kind = list(places(tree))[number]
    before = ast.unparse(node)
    match kind:
        case "compare":
            node.ops[0] = SWAPS[type(node.ops[0])]()
        case "operator":
            node.op = SWAPS[type(node.op)]()
        case "number":
            node.value += 1
        case "not":
            node.op = ast.UAdd()
            node.operand = ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        case "return":
            node.value = ast.Constant(None)
    ast.fix_missing_locations(tree)
    return ast.unparse(tree), f"{node.lineno} {before[:70]} -> {ast.unparse(node)[:70]}"


def survives(copy, stem):
    """Run the core's tests on a changed copy in a child; the module's own tests come first."""
    tests = copy / "tests" / "gateway" / "core"
    own = sorted(tests.glob(f"test_{stem}*.py")) + sorted(tests.glob("test_mutants*.py"))
    rest = [t for t in sorted(tests.glob("test_*.py")) if t not in own]
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        os._exit(
            pytest.main(
                [
                    "-q",
                    "-x",
                    "-p",
                    "no:cacheprovider",
                    "-o",
                    "timeout=30",
                    "-W",
                    REWRITE,
                    *map(str, own + rest),
                ]
            )
        )
    return os.waitpid(child, 0)[1] == 0


def main():
    """Change one place after another and count what the tests notice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", default="")
    parser.add_argument("--again", type=Path, help="only what survived an earlier run, its output")
    asked = parser.parse_args()
    files = [
        p for p in sorted((ROOT / "gateway" / "core").glob("*.py"))
        if p.stem != "__init__" and (not asked.modules or p.stem in asked.modules.split(","))
    ]  # fmt: skip
    every = [(p, n) for p in files for n in range(len(list(places(ast.parse(p.read_text())))))]
    chosen = random.Random(asked.seed).sample(every, min(asked.count, len(every)))
    before = asked.again.read_text() if asked.again else ""
    killed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("gateway", "ledger", "firmware_sim", "tests/gateway/core", "tests/fakes"):
            shutil.copytree(ROOT / name, copy / name)
        for name in ("pyproject.toml", "tests/conftest.py", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        if not survives(copy, ""):
            sys.exit("the tests fail on the code as it is")
        for path, number in sorted(chosen):
            target = copy / path.relative_to(ROOT)
            source = path.read_text()
            changed, what = mutate(source, number)
            if asked.again and f"{path.name}:{what}" not in before:
                killed += 1
                continue
            target.write_text(changed)
            if survives(copy, path.stem):
                print(f"survived: {path.name}:{what}", flush=True)
            else:
                killed += 1
            target.write_text(source)
    print(
        f"{killed} of {len(chosen)} killed ({100 * killed / len(chosen):.0f} %); {len(every)} places"
    )


if __name__ == "__main__":
    main()
