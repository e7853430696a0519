"""One Modbus connection: requests go out in order, only fitting answers come back.

A write overtakes every waiting read. A deadline counts for the whole answer from the moment the
request is sent. After a deadline or a wrong answer the connection is aborted: whatever arrives
later arrives nowhere.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol, cast

from typing_extensions import override

from gateway.devices.modbus import frame
from gateway.devices.modbus.frame import Lie, Refusal, Request, WrongAnswer


class NotSent(Exception):  # noqa: N818 - an outcome
    """The request never left."""


class Unanswered(Exception):  # noqa: N818 - an outcome
    """The request left and no whole answer came."""


class Framing(Protocol):
    """How requests and answers are laid on the wire; ``key`` tells answers apart."""

    flying_count_max: int

    def new_key(self) -> int:
        """A key for the next request."""
        ...

    def frame(self, request: Request, key: int) -> bytes:
        """The bytes to send."""
        ...

    def find(self, data: bytes, jobs: dict[int, Job]) -> Job | None:
        """The job the data claim to answer; None while it cannot be told."""
        ...

    def judge(self, job: Job, data: bytes) -> tuple[bytes, int] | None:
        """See ``frame.judge_tcp``."""
        ...


class TcpFraming(Framing):
    """Transaction ids 1 to 65535 from a random start, none used twice within 65534 requests."""

    def __init__(
        self,
        *,
        flying_count_max: int = 1,
        transaction_zero_ok: bool = False,
        exception_length_four_ok: bool = False,
        first_key: int | None = None,
    ) -> None:
        self.flying_count_max = flying_count_max
        self._zero_ok = transaction_zero_ok
        self._four_ok = exception_length_four_ok
        start = int.from_bytes(os.urandom(2)) if first_key is None else first_key
        self._key = start % 65535

    @override
    def new_key(self) -> int:
        self._key = self._key % 65535 + 1
        return self._key

    @override
    def frame(self, request: Request, key: int) -> bytes:
        return key.to_bytes(2) + request.body

    @override
    def find(self, data: bytes, jobs: dict[int, Job]) -> Job | None:
        if len(data) < 2:
            return None
        key = data[0] << 8 | data[1]
        job = jobs.get(key)
        if job is None:
            if key == 0 and self._zero_ok and len(jobs) == 1:
                return next(iter(jobs.values()))
            raise WrongAnswer(Lie.TRANSACTION, f"nothing asked as {key}")
        return job

    @override
    def judge(self, job: Job, data: bytes) -> tuple[bytes, int] | None:
        return frame.judge_tcp(
            job.request,
            job.key,
            data,
            transaction_zero_ok=self._zero_ok,
            exception_length_four_ok=self._four_ok,
        )


class RtuFraming(Framing):
    """Serial frames; there is nothing in them that tells an old answer from a new one."""

    flying_count_max = 1

    @override
    def new_key(self) -> int:
        return 0

    @override
    def frame(self, request: Request, key: int) -> bytes:
        return frame.rtu_frame(request)

    @override
    def find(self, data: bytes, jobs: dict[int, Job]) -> Job | None:
        return jobs[0]

    @override
    def judge(self, job: Job, data: bytes) -> tuple[bytes, int] | None:
        return frame.judge_rtu(job.request, data)


class Job:
    """A request on its way and who waits for it."""

    __slots__ = ("answer", "deadline_s", "key", "pause_s", "request", "timeout_s")

    def __init__(
        self,
        request: Request,
        answer: asyncio.Future[bytes],
        *,
        timeout_s: float,
        pause_s: float,
    ) -> None:
        self.request = request
        self.answer = answer
        self.timeout_s = timeout_s
        self.pause_s = pause_s
        self.deadline_s = 0.0
        self.key = -1


class Link(asyncio.Protocol):
    """One open connection."""

    def __init__(
        self,
        framing: Framing,
        *,
        counts: Counter[str],
        on_end: Callable[[], None],
        rest_until_s: float = 0.0,
        drain_s: float = 0.0,
    ) -> None:
        self._framing = framing
        self._loop = asyncio.get_running_loop()
        self._counts = counts
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._writes: deque[Job] = deque()
        self._reads: deque[Job] = deque()
        self._flying: dict[int, Job] = {}
        self._rest = b""
        self._timer: asyncio.TimerHandle | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._rest_until_s = rest_until_s
        self._drain_s = drain_s
        self._gone = self._loop.create_future()
        self.closed = False

    # Asking

    def ask(
        self, request: Request, *, timeout_s: float, pause_s: float = 0.0
    ) -> asyncio.Future[bytes]:
        """Queue a request; the future ends with the data or with one of the outcomes.

        Raises through the future: NotSent, Unanswered, Refusal, WrongAnswer.
        """
        job = Job(request, self._loop.create_future(), timeout_s=timeout_s, pause_s=pause_s)
        if self.closed:
            job.answer.set_exception(NotSent("connection is closed"))
            return job.answer
        (self._writes if request.is_write else self._reads).append(job)
        if len(self._flying) < self._framing.flying_count_max:
            self._pump()
        return job.answer

    @property
    def waiting_count(self) -> int:
        """Requests that have not been sent yet."""
        return len(self._writes) + len(self._reads)

    def _pump(self) -> None:
        while len(self._flying) < self._framing.flying_count_max:
            if self._writes:
                queue = self._writes
            elif self._reads:
                queue = self._reads
            else:
                return
            now_s = self._loop.time()
            if now_s < self._rest_until_s:
                if self._wake is None:
                    self._wake = self._loop.call_at(self._rest_until_s, self._woken)
                return
            job = queue.popleft()
            if not job.answer.done():
                self._send(job, now_s)

    def _woken(self) -> None:
        self._wake = None
        if not self.closed:
            self._pump()

    def _send(self, job: Job, now_s: float) -> None:
        assert self._transport is not None
        key = job.key = self._framing.new_key()
        self._flying[key] = job
        job.deadline_s = now_s + job.timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(job.deadline_s, self._check_deadlines)
        elif job.deadline_s < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(job.deadline_s, self._check_deadlines)
        self._transport.write(self._framing.frame(job.request, key))

    def _check_deadlines(self) -> None:
        # One timer for the whole connection: it is not moved at each request, only looked at.
        self._timer = None
        if not self._flying:
            return
        now_s = self._loop.time()
        first_s = min(job.deadline_s for job in self._flying.values())
        if first_s > now_s:
            self._timer = self._loop.call_at(first_s, self._check_deadlines)
            return
        self._counts["timeout"] += 1
        self.abort(Unanswered("no whole answer in time"))

    # Hearing

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transports are of asyncio's own classes; all of them can write.
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._drain_s and not self._flying:
            # A serial line: something late or noise. Nothing is asked until it has been silent.
            self._counts["discarded"] += len(data)
            self._rest_until_s = max(self._rest_until_s, self._loop.time() + self._drain_s)
            return
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if len(self._flying) == 1 and self._took_whole(data):
            return
        done: list[tuple[Job, bytes | Refusal]] = []
        try:
            data = self._take(data, done)
        except WrongAnswer as lie:
            self._counts[f"lie_{lie.kind}"] += 1
            # Right answers that came in one piece with a wrong one are not believed either.
            for job, _ in done:
                self._flying[job.key] = job
            self.abort(lie)
            return
        self._rest = data
        for job, got in done:
            if job.answer.done():
                continue
            if isinstance(got, Refusal):
                job.answer.set_exception(got)
            else:
                job.answer.set_result(got)
        if done:
            self._go_on(done[-1][0])

    def _took_whole(self, data: bytes) -> bool:
        """The usual case: one request is out and exactly its answer came. False: look closer."""
        try:
            job = self._framing.find(data, self._flying)
            taken = self._framing.judge(job, data) if job is not None else None
        except (WrongAnswer, Refusal):
            return False  # found again, counted and handled below
        if job is None or taken is None or taken[1] != len(data):
            return False
        self._flying.clear()
        if not job.answer.done():
            job.answer.set_result(taken[0])
        self._go_on(job)
        return True

    def _go_on(self, job: Job) -> None:
        """After an answer: the pause the device wants, then whoever waits."""
        if job.pause_s:
            self._rest_until_s = self._loop.time() + job.pause_s
        if self._writes or self._reads:
            self._pump()

    def _take(self, data: bytes, done: list[tuple[Job, bytes | Refusal]]) -> bytes:
        """Move every whole answer at the front of ``data`` to ``done``; return what is left."""
        framing = self._framing
        while data:
            if not self._flying:
                kind = Lie.EXTRA if done else Lie.UNSOLICITED
                raise WrongAnswer(kind, f"{len(data)} bytes")
            job = framing.find(data, self._flying)
            if job is None:
                return data
            got: bytes | Refusal
            try:
                taken = framing.judge(job, data)
                if taken is None:
                    return data
                got, used = taken
            except Refusal as refusal:
                got, used = refusal, self._refusal_length(data)
            del self._flying[job.key]
            done.append((job, got))
            data = data[used:]
        return data

    def _refusal_length(self, data: bytes) -> int:
        if isinstance(self._framing, RtuFraming):
            return 5
        return frame.HEADER_LENGTH + int.from_bytes(data[4:6])

    # Ending

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Unanswered(f"connection lost{f': {exc}' if exc else ''}"))
        if not self._gone.done():
            self._gone.set_result(None)

    @override
    def eof_received(self) -> bool:
        return False

    def abort(self, reason: Exception) -> None:
        """Drop the connection at once; what is in flight ends with ``reason``."""
        transport = self._transport
        self._end(reason)
        if transport is not None:
            transport.abort()

    async def close(self) -> None:
        """Close an idle connection and wait until its socket is gone."""
        transport = self._transport
        self._end(Unanswered("closed"))
        if transport is not None:
            transport.abort()
            await self._gone

    def _end(self, reason: Exception) -> None:
        if self.closed:
            return
        self.closed = True
        for timer in (self._timer, self._wake):
            if timer is not None:
                timer.cancel()
        self._timer = self._wake = None
        flying = list(self._flying.values())
        waiting = [*self._writes, *self._reads]
        self._flying.clear()
        self._writes.clear()
        self._reads.clear()
        self._on_end()
        for job in flying:
            if not job.answer.done():
                job.answer.set_exception(_again(reason))
        for job in waiting:
            if not job.answer.done():
                job.answer.set_exception(NotSent("connection ended before the request left"))


def _again(reason: Exception) -> Exception:
    """A fresh exception of the same kind: one object must not be raised in several places."""
    if isinstance(reason, WrongAnswer):
        return WrongAnswer(reason.kind, str(reason).partition(": ")[2])
    return Unanswered(*reason.args)
