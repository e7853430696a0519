"""FORMAT.md is enough for a stranger: a verifier written from the page alone, and its example."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ledger.log.keys import Signer

PAGE = Path(__file__).parents[2] / "ledger" / "FORMAT.md"


def example() -> bytes:
    """The bytes of the page's hex dump."""
    block = PAGE.read_text().split("```")[1]
    rows = re.findall(r"^([0-9a-f]{4})  ((?:[0-9a-f]{2} ?){1,16}) ", block, re.MULTILINE)
    data = b"".join(bytes.fromhex(row) for _, row in rows)
    assert [int(offset, 16) for offset, _ in rows] == list(range(0, len(data), 16))
    return data


def stranger(directory: Path, vkey: str) -> int:
    """Verify a ledger as the page tells, with nothing of this project; returns its size."""
    name, _, blob = vkey.split("+", 2)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(blob)[1:])
    tree: list[tuple[int, bytes]] = []  # perfect subtrees: size, root
    note = ""
    paths = sorted((directory / "segments").glob("*.seg"))
    for number, path in enumerate(paths):
        data = path.read_bytes()
        place, index, start, kind = 0, int(path.stem), int(path.stem), 0
        while any(data[place : place + 17]):
            crc, length, stated, kind = struct.unpack_from(">IIQB", data, place)
            payload = data[place + 17 : place + 17 + length]
            assert zlib.crc32(data[place + 4 : place + 17 + length]) == crc
            assert stated == (start if kind == 2 else index)
            if kind == 3:
                header = json.loads(payload)
                assert (header["format"], header["origin"]) == (1, name)
                assert (header["segment"], header["size"]) == (number, index)
                assert header["frontier"] == [h.hex() for _, h in tree]
                assert header["checkpoint"] == note
            elif kind == 1:
                tree.append((1, hashlib.sha256(b"\0" + payload).digest()))
                while len(tree) > 1 and tree[-1][0] == tree[-2][0]:
                    (n, right), (_, left) = tree.pop(), tree.pop()
                    tree.append((2 * n, hashlib.sha256(b"\1" + left + right).digest()))
                index += 1
            elif kind == 2:
                note, start = payload.decode(), index
                text, line = note.rsplit("\n\n", 1)
                root = tree[-1][1]
                for _, left in reversed(tree[:-1]):
                    root = hashlib.sha256(b"\1" + left + root).digest()
                assert text.split("\n") == [name, str(index), base64.b64encode(root).decode()]
                key.verify(base64.b64decode(line.split(" ")[2])[4:], (text + "\n").encode())
            else:
                assert kind in (4, 5)
            place += 17 + length
        assert not any(data[place:])
        assert start == index
        assert (kind == 4) is (path != paths[-1])
    return sum(n for n, _ in tree)


def test_the_example_is_what_is_written(
    make: Callable[..., Path], tmp_path: Path, signer: Signer
) -> None:
    directory = make([b"alpha", b"beta", b"gamma"])
    data = example()
    assert (directory / "segments" / f"{0:020d}.seg").read_bytes() == data
    assert stranger(directory, signer.vkey) == 3
    assert signer.vkey in PAGE.read_text()
    assert data.index(b"OF2jDzkXKCyJOd") == 0x124


def test_a_stranger_verifies_many_segments_and_sees_changes(
    make: Callable[..., Path], signer: Signer
) -> None:
    directory = make(*[[b"%d" % n * 30] * (n % 4 + 1) for n in range(40)], segment_bytes=3_000)
    assert stranger(directory, signer.vkey) == 100
    path = sorted((directory / "segments").glob("*.seg"))[2]
    clean = path.read_bytes()
    for offset in range(0, len(clean), 61):
        data = bytearray(clean)
        data[offset] ^= 4
        path.write_bytes(data)
        with pytest.raises(
            (AssertionError, InvalidSignature, ValueError, struct.error, IndexError)
        ):
            stranger(directory, signer.vkey)


def test_a_ledger_of_this_format_opens_verifies_and_grows(tmp_path: Path, signer: Signer) -> None:
    """The page's bytes are the oldest ledger there is: they must open with every later version."""
    import asyncio

    from ledger.log import reader
    from ledger.log.verify import verify
    from ledger.log.writer import LedgerWriter

    directory = tmp_path / "old"
    (directory / "segments").mkdir(parents=True)
    (directory / "segments" / f"{0:020d}.seg").write_bytes(example())
    assert verify(directory, [signer.vkey]).ok
    assert [leaf for _, leaf in reader.entries(directory)] == [b"alpha", b"beta", b"gamma"]

    async def grow() -> None:
        writer = LedgerWriter.open(directory, signer=signer, origin=signer.name)
        assert await writer.append(b"delta") == 3
        await writer.close()

    asyncio.run(grow())
    report = verify(directory, [signer.vkey])
    assert (report.ok, report.size) == (True, 4)
    assert stranger(directory, signer.vkey) == 4
