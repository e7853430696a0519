"""Mutation testing of the core: small changes to its code, each of which its tests must notice.

python tests/bench/bench_core_mutation.py --count 60 --seed 1 --modules tracking,delivery

The tests are collected once. For a change inside a function a child gets the changed code and runs
the tests that call this function; for one outside (constants, defaults) everything is loaded anew.
"""

import argparse
import ast
import gc
import os
import random
import resource
import shutil
import sys
import tempfile
import types
import zlib
from pathlib import Path

import cryptography.hazmat.primitives.asymmetric.ed25519  # noqa: F401 - loaded once for all children
import hypothesis
import msgspec  # noqa: F401
import pytest

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("-x", "-p", "no:cacheprovider", "-p", "no:terminal", "-o", "timeout=0",
           "-W", "ignore::pytest.PytestAssertRewriteWarning")  # fmt: skip
CPU_S_MAX = 60  # of all tests of the core together: more is a loop without end
HELD_OUT_OF = 3  # one place of three can be kept from whoever writes tests
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
    """Return the tree of the source with its ``number``-th place changed, and where."""
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
    return tree, f"{node.lineno} {before[:70]} -> {ast.unparse(node)[:70]}"


def held_out(name, source, what):
    """Tell whether a place belongs to the third that is kept from whoever writes tests.

    By its text, not its number: it stays where it is when the code around it changes.
    """
    line, change = what.split(" ", 1)
    text = source.splitlines()[int(line) - 1].strip()
    return zlib.crc32(f"{name}:{text}:{change}".encode()) % HELD_OUT_OF == 0


def functions_of(code):
    """Return the code of every function that is not inside another one, by name and line."""
    found = {}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            if inner.co_flags & 2:  # its own names: a function, not the body of a class
                found[inner.co_qualname, inner.co_firstlineno] = inner
            else:
                found |= functions_of(inner)
    return found


def changed_functions(target, source, tree):
    """Return the functions that a change is in, with their new code; none when it is outside."""
    before = functions_of(compile(ast.parse(source), str(target), "exec", dont_inherit=True))
    after = functions_of(compile(tree, str(target), "exec", dont_inherit=True))
    return {key: code for key, code in after.items() if code != before[key]}


class Calls:
    """Which functions of the core each test calls."""

    def __init__(self, folder):
        self.folder = str(folder)
        self.by_test = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        """Listen while a test runs."""
        seen = self.by_test[item.nodeid] = set()

        def heard(frame, event, _argument):
            code = frame.f_code
            if event == "call" and code.co_filename.startswith(self.folder):
                seen.add((code.co_filename, code.co_qualname, code.co_firstlineno))

        sys.setprofile(heard)
        try:
            return (yield)
        finally:
            sys.setprofile(None)


class Stop:
    """Ends a child at the first test that notices."""

    def pytest_runtest_logreport(self, report):
        """Leave with a failure."""
        if report.failed:
            os._exit(1)


def in_child(action):
    """Return whether ``action`` came to its end in a child without a failure."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_MAX, CPU_S_MAX))
        done = False
        try:
            done = action()
        finally:  # whatever a changed program raises: it was noticed
            os._exit(0 if done else 1)
    return os.waitpid(child, 0)[1] == 0


class Round:
    """Changes one place after another, with the tests of the core collected once."""

    def __init__(self, copy, chosen, report):
        self.copy, self.chosen, self.report = copy, chosen, report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Do the round instead of running the tests once."""
        calls = Calls(self.copy / "gateway")
        session.config.pluginmanager.register(calls)
        for item in session.items:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        session.config.pluginmanager.unregister(calls)
        if session.testsfailed:
            sys.exit("the tests fail on the code as it is")
        session.config.pluginmanager.register(Stop())
        no_shrinking = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        house = hypothesis.settings.get_profile("house")
        hypothesis.settings.register_profile("bench", house, phases=no_shrinking)
        hypothesis.settings.load_profile("bench")
        functions = {}
        for f in gc.get_objects():
            if isinstance(f, types.FunctionType):
                code = f.__code__
                place = (code.co_filename, code.co_qualname, code.co_firstlineno)
                functions.setdefault(place, []).append(f)
        for path, number in self.chosen:
            self.report(path, number, self._survives(path, number, session, calls, functions))
        return True

    def _survives(self, path, number, session, calls, functions):
        target = self.copy / path.relative_to(ROOT)
        source = path.read_text()
        tree, _what = mutate(source, number)
        changed = changed_functions(target, source, tree)
        if not changed or any((str(target), *key) not in functions for key in changed):
            return self._survives_anew(target, source, tree)
        keys = {(str(target), *key) for key in changed}
        items = [i for i in session.items if calls.by_test[i.nodeid] & keys]
        # Its own tests come first, searching ones last.
        items.sort(key=lambda i: (hasattr(i.obj, "hypothesis"), path.stem not in i.path.stem))

        def run():
            for key, code in changed.items():
                for function in functions[str(target), *key]:
                    function.__code__ = code
            for item in items:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            return True

        return in_child(run)

    def _survives_anew(self, target, source, tree):
        target.write_text(ast.unparse(tree))
        tests = self.copy / "tests" / "gateway" / "core"
        command = [sys.executable, "-B", "-m", "pytest", *OPTIONS, str(tests)]

        def run():
            os.chdir(self.copy)
            os.environ["PYTHONPATH"] = str(self.copy)
            os.execv(command[0], command)

        survived = in_child(run)
        target.write_text(source)
        return survived


def choose(asked):
    """Return the places to change and how many there are."""
    files = [
        p for p in sorted((ROOT / "gateway" / "core").glob("*.py"))
        if p.stem != "__init__" and (not asked.modules or p.stem in asked.modules.split(","))
    ]  # fmt: skip
    every = [(p, n) for p in files for n in range(len(list(places(ast.parse(p.read_text())))))]
    if asked.part:
        sources = {p: p.read_text() for p in files}
        every = [
            (p, n) for p, n in every
            if held_out(p.name, sources[p], mutate(sources[p], n)[1]) == (asked.part == "held-out")
        ]  # fmt: skip
    count = len(every) if asked.count == 0 else min(asked.count, len(every))
    chosen = sorted(random.Random(asked.seed).sample(every, count))
    if asked.again:
        before = asked.again.read_text()
        chosen = [
            (p, n) for p, n in chosen if f"{p.name}:{mutate(p.read_text(), n)[1]}\n" in before
        ]
    return chosen, len(every)


def main():
    """Change one place after another and count what the tests notice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60, help="0: every place")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--modules", default="")
    parser.add_argument("--part", choices=("shown", "held-out"), help="two thirds, or the third")
    parser.add_argument("--again", type=Path, help="only what survived an earlier run, its output")
    asked = parser.parse_args()
    chosen, every_count = choose(asked)
    survived = []

    def report(path, number, alive):
        if alive:
            survived.append((path, number))
            print(f"survived: {path.name}:{mutate(path.read_text(), number)[1]}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("gateway", "ledger", "firmware_sim", "tests/gateway/core", "tests/fakes"):
            shutil.copytree(ROOT / name, copy / name)
        for name in ("pyproject.toml", "tests/conftest.py", "README.md"):
            shutil.copy(ROOT / name, copy / name)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        sys.dont_write_bytecode = True
        tests = copy / "tests" / "gateway" / "core"
        pytest.main([*OPTIONS, str(tests)], plugins=[Round(copy, chosen, report)])
    killed = len(chosen) - len(survived)
    share = 100 * killed / len(chosen)
    print(f"{killed} of {len(chosen)} killed ({share:.1f} %); {every_count} places")


if __name__ == "__main__":
    main()
