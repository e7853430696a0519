"""Fuzzing of every parser that reads bytes from outside: never a crash, never a wrong yes.

Coverage-guided with atheris where it is installed, else seeded mutations of valid inputs:

python tests/fault/ledger_fuzz.py --runs 1000000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_writer import ORIGIN, signer

from ledger.audit import receipt_check
from ledger.log import (
    canonical,
    checkpoint,
    note,
    policy,
    proof,
    record,
    segment,
    tiles,
    verify,
)
from ledger.log.cosign import Cosigner
from ledger.log.treeview import TreeView
from ledger.log.writer import LedgerWriter
from ledger.network import witness

KEY, VKEY = signer().key, signer().vkey
Target = Callable[[bytes], bool]
"""Takes any bytes; says whether it accepted them. Raising anything is a crash."""


def refuses(*errors: type[Exception]) -> Callable[[Callable[[bytes], object]], Target]:
    """A parser that says no by one of these errors."""

    def wrap(parser: Callable[[bytes], object]) -> Target:
        def run(data: bytes) -> bool:
            try:
                return bool(parser(data))
            except errors:
                return False

        return run

    return wrap


def seeds(folder: Path) -> tuple[bytes, bytes, bytes]:
    """A segment, its checkpoint and a proof."""

    async def write() -> None:
        writer = LedgerWriter.open(folder / "l", signer=signer(), origin=ORIGIN)
        await writer.append_many([b'{"a":1,"b":["x",null,true]}', b"2", b"3"])
        await writer.append(b"4")
        await writer.close()

    asyncio.run(write())
    view = TreeView.open(folder / "l")
    made = proof.TlogProof(index=2, hashes=tuple(view.inclusion(2, 4)), checkpoint=view.checkpoint)
    return segment.segments(folder / "l")[0].read_bytes(), view.checkpoint, made.encode()


def targets(whole: bytes, signed: bytes, proved: bytes) -> dict[str, tuple[bytes, Target]]:
    """Parsers with a valid input each; accepting anything but that input's meaning is a fault."""
    shape = (
        b'{"checkpoint":"x","entries":[],"intervals":[],"schema":"sopgw/v1/receipt","tlog":"C2SP"}'
    )
    other = Cosigner.ed25519(Ed25519PrivateKey.from_private_bytes(bytes(32)), "w.example").key.vkey
    rules = f"log {VKEY}\nwitness w {other}\ngroup g any w\nquorum g\n".encode()
    return {
        "segment": (whole, lambda d: verify.check_bytes("s", 0, d, [VKEY]).fault is None),
        "record": (whole, refuses(record.Damage)(lambda d: list(record.walk(d, 0, 0)))),
        "header": (whole, refuses(record.Damage)(lambda d: segment.parse_start(d, 0))),
        "note": (signed, refuses(note.NoteError)(
            lambda d: checkpoint.verified_keys(checkpoint.parse(d).note, [KEY]))),
        "proof": (proved, refuses(note.NoteError, proof.ProofError)(
            lambda d: proof.verify(proof.parse(d), b"3", [KEY]))),
        "receipt": (shape, lambda d: receipt_check.verify(d, vkey=VKEY).ok),
        "policy": (rules, refuses(policy.PolicyError, UnicodeDecodeError)(
            lambda d: policy.parse(d.decode()))),
        "leaf": (b'{"a":1,"b":["x",null,true]}', refuses(canonical.CanonicalError)(
            lambda d: canonical.encode(canonical.decode(d)) == d)),
        "witness": (b"old 0\n\n" + signed, refuses(witness.Malformed)(witness.parse_request)),
        "bundle": (b"\x00\x01a\x00\x02bc", lambda d: tiles.split_bundle(d) != []),
    }  # fmt: skip


STRICT = frozenset({"segment", "note", "proof", "receipt"})
"""Targets whose seed is signed: other bytes must be refused, save its own beginning, which is what a
cut-off ledger looks like to one who has only its files. (The receipt's seed is not signed.)"""


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """The seed with a few random edits."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) + 1)
        edit = rng.randrange(6)
        if edit == 0 and data:
            data[place % len(data)] ^= 1 << rng.randrange(8)
        elif edit == 1 and data:
            data[place % len(data)] = rng.choice((0, 1, 10, 32, 43, 48, 127, 128, 255))
        elif edit == 2:
            data[place:place] = rng.randbytes(rng.randrange(1, 9))
        elif edit == 3:
            del data[place : place + rng.randrange(1, 30)]
        elif edit == 4:
            other = rng.randrange(len(data) + 1)
            data[place:place] = data[other : other + rng.randrange(1, 60)]
        else:
            del data[place:]
    return bytes(data)


def campaign(*, runs: int, seed: int, folder: Path) -> dict[str, str]:
    """Mutate and run; returns what went wrong, by target."""
    rng = random.Random(seed)
    found: dict[str, str] = {}
    everything = targets(*seeds(folder))
    for name, (valid, target) in everything.items():
        if name != "receipt" and not target(valid):
            found[name] = "refuses its own valid input"
        for _ in range(runs // len(everything)):
            data = mutated(rng, valid)
            try:
                accepted = target(data)
            except Exception as error:  # noqa: BLE001 - any exception that escapes is the finding
                found[name] = f"{type(error).__name__}: {error}: {data[:200].hex()}"
                break
            if accepted and name in STRICT and not valid.startswith(data.rstrip(b"\0")):
                found[name] = f"accepts {data.hex()}"
                break
    return found


def guided(folder: Path, arguments: list[str]) -> None:
    """Run atheris over all targets at once; it ends the process itself."""
    atheris = import_module("atheris")
    everything = list(targets(*seeds(folder)).items())

    def one(data: bytes) -> None:
        name, (valid, target) = everything[data[0] % len(everything)] if data else everything[0]
        if target(data[1:]) and name in STRICT and not valid.startswith(data[1:].rstrip(b"\0")):
            raise AssertionError(f"{name} accepts {data[1:].hex()}")

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, (name, (valid, _)) in enumerate(everything):
        (corpus / name).write_bytes(bytes([number]) + valid)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--guided", action="store_true", help="use atheris, which must be installed"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.guided and find_spec("atheris"):
            guided(Path(name), [f"-runs={given.runs}", f"-seed={given.seed}"])
            return
        start = time.perf_counter()
        found = campaign(runs=given.runs, seed=given.seed, folder=Path(name))
        passed = time.perf_counter() - start
    print(f"{given.runs} inputs, {len(found)} targets with a fault, {given.runs / passed:,.0f}/s")
    for target, what in found.items():
        print(f"{target}: {what}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
