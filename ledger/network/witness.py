"""A C2SP tlog-witness: remembers each log's tree and cosigns only what continues it.

The server checks and persists before it answers; the client collects cosignatures for a
checkpoint and tells a rollback or a fork of its own log, which only a witness can see.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp
from aiohttp import web

from ledger.log import checkpoint, note, tiles
from ledger.log.checkpoint import SignedCheckpoint
from ledger.log.cosign import Cosigner
from ledger.log.merkle import ProofError, verify_consistency
from ledger.log.note import Key, Note, NoteError, Signature
from ledger.log.segment import sync_directory

BODY_BYTES_MAX = 256 << 10
"""A proof of 63 hashes and a checkpoint with many signatures stay far below."""

PROOF_HASHES_MAX = 63
LOCK = "lock"
"""Beside a log's checkpoint: held while one request is judged, against a second process too."""
SIZE_TYPE = "text/x.tlog.size"
TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer: status, body, content type."""

    status_code: int
    body: bytes = b""
    content_type: str = "text/plain"


class Malformed(Exception):  # noqa: N818 - becomes an answer
    """A request that is not in the protocol's form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One parsed add-checkpoint request."""

    old_size: int
    proof: tuple[bytes, ...]
    signed: SignedCheckpoint


def parse_request(body: bytes) -> Request:
    """Parse the body of add-checkpoint."""
    if len(body) > BODY_BYTES_MAX:
        raise Malformed("body is too large")
    head, blank, data = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise Malformed("proof is not ASCII") from None
    digits = lines[0].removeprefix("old ")
    plain = digits.isdigit() and len(digits) < 20 and (digits == "0" or digits[0] != "0")
    if not blank or digits == lines[0] or not plain:
        raise Malformed("body does not begin with the old size")
    if len(lines) - 1 > PROOF_HASHES_MAX:
        raise Malformed("proof is too long")
    try:
        proof = tuple(note.strict_base64(line) for line in lines[1:])
        signed = checkpoint.parse(data)
    except NoteError as error:
        raise Malformed(str(error)) from None
    return Request(old_size=int(digits), proof=proof, signed=signed)


class Witness:
    """The state of one witness: which logs it follows and what it last saw of each."""

    def __init__(
        self,
        directory: Path,
        *,
        cosigners: Sequence[Cosigner],
        logs: Iterable[Key],
        unix_s: Callable[[], int],
    ) -> None:
        self.directory = directory
        self.cosigners = tuple(cosigners)
        self.logs: dict[str, list[Key]] = {}
        for key in logs:
            self.logs.setdefault(key.name, []).append(key)
        self.unix_s = unix_s
        self.locks = {origin: asyncio.Lock() for origin in self.logs}

    def path(self, origin: str) -> Path:
        """Where the last cosigned checkpoint of a log is kept."""
        return self.directory / hashlib.sha256(origin.encode()).hexdigest() / "checkpoint"

    def seen(self, origin: str) -> SignedCheckpoint | None:
        """The last checkpoint of a log; None when it was never seen."""
        try:
            return checkpoint.parse(self.path(origin).read_bytes())
        except FileNotFoundError:
            return None

    async def add(self, body: bytes) -> Answer:
        """Judge one request; the new state is on disk before the answer is given."""
        try:
            request = parse_request(body)
        except Malformed as error:
            return Answer(status_code=400, body=f"{error}\n".encode())
        point = request.signed.checkpoint
        keys = self.logs.get(point.origin)
        if keys is None:
            return Answer(status_code=404, body=b"unknown log\n")
        try:
            if not checkpoint.verified_keys(request.signed.note, keys):
                return Answer(status_code=403, body=b"no signature of this log\n")
        except NoteError as error:
            return Answer(status_code=403, body=f"{error}\n".encode())
        if request.old_size > point.size:
            return Answer(status_code=400, body=b"old size is larger than the checkpoint\n")
        async with self.locks[point.origin]:
            return await asyncio.to_thread(self.decide, request)

    def decide(self, request: Request) -> Answer:
        """Compare with what was seen, then cosign and remember."""
        point = request.signed.checkpoint
        path = self.path(point.origin)
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path.parent / LOCK):
            before = self.seen(point.origin)
            seen_size = before.checkpoint.size if before else 0
            if request.old_size != seen_size:
                return Answer(status_code=409, body=b"%d\n" % seen_size, content_type=SIZE_TYPE)
            if before and point.size == seen_size and point.root != before.checkpoint.root:
                return Answer(status_code=409)  # the size is known: it is the tree that differs
            if not continues(request, before):
                return Answer(status_code=422, body=b"does not continue the tree seen before\n")
            lines = [c.cosign(request.signed.note.text, self.unix_s()) for c in self.cosigners]
            cosigned = Note(
                text=request.signed.note.text, signatures=(*self.verified(request), *lines)
            ).encode()
            if len(cosigned) > BODY_BYTES_MAX:  # nobody could read it again
                return Answer(status_code=400, body=b"checkpoint is too large\n")
            tiles.write_file(path, cosigned)
            sync_directory(path.parent)
        return Answer(status_code=200, body="".join(s.line() for s in lines).encode())

    def verified(self, request: Request) -> list[Signature]:
        """The log's own signatures: one line a key, whatever else a stranger put under the text."""
        signed = request.signed.note
        keys = checkpoint.verified_keys(signed, self.logs[request.signed.checkpoint.origin])
        return [line for key in keys if (line := signed.by(key)) is not None]

    async def handle_add(self, request: web.Request) -> web.Response:
        """POST add-checkpoint."""
        answer = await self.add(await request.read())
        return web.Response(
            status=answer.status_code, body=answer.body, content_type=answer.content_type
        )

    async def handle_get(self, request: web.Request) -> web.Response:
        """GET the last cosigned checkpoint of a log, for whoever compares."""
        name = request.match_info["origin"]
        for origin in self.logs:
            path = self.path(origin)
            if path.parent.name == name and path.exists():
                return web.Response(body=await asyncio.to_thread(path.read_bytes))
        return web.Response(status=404, text="unknown log\n")

    def application(self) -> web.Application:
        """The HTTP face of this witness."""
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/add-checkpoint", self.handle_add)
        app.router.add_get("/{origin:[0-9a-f]{64}}/checkpoint", self.handle_get)
        return app


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock file; waits for whoever holds it, and the kernel frees it with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def continues(request: Request, before: SignedCheckpoint | None) -> bool:
    """Whether the request's checkpoint continues what was seen before."""
    point = request.signed.checkpoint
    if before is None or before.checkpoint.size == 0:
        return not request.proof
    try:
        verify_consistency(
            old_size=before.checkpoint.size,
            size=point.size,
            old_root=before.checkpoint.root,
            root=point.root,
            proof=request.proof,
        )
    except ProofError:
        return False
    return True


class Tree(Protocol):
    """Whatever proves that one size of a ledger continues another."""

    @property
    def checkpoint(self) -> bytes:
        """The signed checkpoint that is offered."""
        ...

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """A consistency proof."""
        ...


class WitnessRefused(Exception):  # noqa: N818 - one of the outcomes of asking
    """A witness did not cosign; ``status_code`` is its HTTP status, 0 when it did not answer."""

    def __init__(self, url: str, status_code: int, what: str) -> None:
        super().__init__(f"{url}: {what}")
        self.status_code = status_code


class RolledBack(WitnessRefused):
    """A witness has seen a larger or different tree of this log: stop and find out why."""


def request_body(old_size: int, proof: Sequence[bytes], signed: bytes) -> bytes:
    """The body of add-checkpoint."""
    lines = [f"old {old_size}", *(b64encode(h).decode() for h in proof)]
    return ("\n".join(lines) + "\n\n").encode() + signed


async def whole(url: str, response: aiohttp.ClientResponse) -> bytes:
    """The whole body, in however many pieces it comes; WitnessRefused when it is too long."""
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > BODY_BYTES_MAX:
            raise WitnessRefused(url, response.status, "answers without an end")
        parts.append(part)
    return b"".join(parts)


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> tuple[int, bytes]:
    """Send one request; returns status and a bounded body."""
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            session.post(
                f"{url.rstrip('/')}/add-checkpoint", data=body, allow_redirects=False
            ) as response,
        ):
            return response.status, await whole(url, response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise WitnessRefused(url, 0, f"no answer: {str(error) or type(error).__name__}") from None


async def cosign(
    session: aiohttp.ClientSession, url: str, key: Key, tree: Tree, *, old_size: int = 0
) -> Signature:
    """Ask one witness for its cosignature over the tree's checkpoint.

    ``old_size`` is the size it cosigned last as far as known; it corrects us once if not.
    """
    signed = tree.checkpoint
    point = checkpoint.parse(signed).checkpoint
    status, body = 0, b""
    for _ in range(2):
        proof = tree.consistency(old_size, point.size) if old_size else []
        status, body = await post(session, url, request_body(old_size, proof, signed))
        if status != 409:
            break
        stated = stated_size(body)
        if old_size == point.size and stated in (None, old_size):
            raise RolledBack(url, status, "has seen a different tree of this log, of the same size")
        if stated is None:
            raise WitnessRefused(url, status, "stated no size")
        old_size = stated
        if old_size > point.size:
            raise RolledBack(
                url, status, f"has cosigned size {old_size}, this ledger has {point.size}"
            )
    if status == 422:
        raise RolledBack(url, status, "has seen a different tree of this log")
    if status != 200:
        raise WitnessRefused(url, status, f"HTTP {status}: {body[:200].decode(errors='replace')}")
    return own_line(url, key, signed, body)


def stated_size(body: bytes) -> int | None:
    """The size a conflicting witness states; None where it states none."""
    text = body.decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def own_line(url: str, key: Key, signed: bytes, body: bytes) -> Signature:
    """The witness's cosignature from its answer, verified."""
    text = note.parse(signed).text
    try:
        answered = note.parse(text + b"\n" + body)
        line = answered.by(key)
        if line is None:
            raise WitnessRefused(url, 200, f"answered without a signature of {key.name}")
        checkpoint.check_signature(key, text, line)
    except NoteError as error:
        raise WitnessRefused(url, 200, str(error)) from None
    return line


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The outcome of asking several witnesses."""

    cosigned: bytes
    refused: Mapping[str, WitnessRefused]


async def collect(
    session: aiohttp.ClientSession, tree: Tree, witnesses: Mapping[str, tuple[Key, str]]
) -> Collected:
    """Ask all witnesses (name to key and URL) at once; returns the note with all cosignatures."""
    refused: dict[str, WitnessRefused] = {}
    lines: dict[str, Signature] = {}

    async def ask(name: str, key: Key, url: str) -> None:
        try:
            lines[name] = await cosign(session, url, key, tree)
        except WitnessRefused as error:
            refused[name] = error

    async with asyncio.TaskGroup() as group:
        for name, (key, url) in witnesses.items():
            group.create_task(ask(name, key, url))
    parsed = note.parse(tree.checkpoint)
    added = tuple(lines[name] for name in sorted(lines))
    cosigned = Note(text=parsed.text, signatures=note.distinct((*parsed.signatures, *added)))
    return Collected(cosigned=cosigned.encode(), refused=refused)


async def last_seen(session: aiohttp.ClientSession, url: str, origin: str) -> bytes:
    """What a witness last cosigned of a log; empty when it knows nothing of it.

    Given to ``LedgerWriter.open`` as ``known``, it keeps a rolled-back ledger from starting. So
    what is no checkpoint of this log is no answer: WitnessRefused.
    """
    name = hashlib.sha256(origin.encode()).hexdigest()
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            session.get(f"{url.rstrip('/')}/{name}/checkpoint", allow_redirects=False) as response,
        ):
            body = await whole(url, response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise WitnessRefused(url, 0, f"no answer: {str(error) or type(error).__name__}") from None
    if response.status == 404:
        return b""
    if response.status != 200:
        raise WitnessRefused(url, response.status, f"HTTP {response.status}")
    try:
        shown = checkpoint.parse(body).checkpoint.origin
    except NoteError as error:
        raise WitnessRefused(url, 200, f"shows no checkpoint: {error}") from None
    if shown != origin:
        raise WitnessRefused(url, 200, f"shows a checkpoint of {shown!r}")
    return body
