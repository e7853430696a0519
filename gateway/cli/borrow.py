"""Control borrowed from the running gateway: it writes the entries, and takes back at any end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.commissioning.session import TestRefused
from gateway.model.errors import JournalError
from gateway.ports import LedgerStatus
from gateway.runtime.control import ANSWER_BYTES_MAX, ask_on


class Refusal(Exception):  # noqa: N818 - an outcome
    """The gateway lends no control; ``answer`` says why."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(str(answer.get("error")))
        self.answer = answer


class BorrowedJournal:
    """The ledger of the running gateway, through the loan of its control."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lent: Mapping[str, Any]
    ) -> None:
        """Use an open connection whose loan was granted."""
        self.owner_id = int(lent["owner_id"])
        self._size = int(lent["entries"])
        self._reader, self._writer = reader, writer
        self._asking = asyncio.Lock()  # answers come in the order of the questions

    @classmethod
    async def open(
        cls,
        path: Path,
        words: Sequence[str],
        *,
        plan: Mapping[str, Any],
        timeout_s: float = 5.0,
    ) -> BorrowedJournal:
        """Borrow control; Refusal when the gateway keeps it, OSError when none answers.

        ``plan`` carries ``state`` and ``site_sha256`` as they were when the plan was made.
        """
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=ANSWER_BYTES_MAX)
            request = {"verb": "borrow", "words": " ".join(words), **plan}
            try:
                answer = await ask_on(reader, writer, request)
            except (OSError, ValueError):
                writer.close()
                raise
        if not answer.get("ok"):
            writer.close()
            raise Refusal(answer)
        return cls(reader, writer, answer)

    async def append(self, kind: str, fields: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Have one entry written; return its index once it is durable.

        Raises:
            TestRefused: the gateway refused it: it is beyond a limit in force.
            JournalError: the gateway took control back, or is gone.
        """
        request = {"verb": "record", "kind": kind, "fields": dict(fields)}
        try:
            async with self._asking:
                answer = await ask_on(self._reader, self._writer, request)
        except (OSError, ValueError) as error:
            raise JournalError(f"the gateway took control back: {error}") from error
        if not answer.get("ok"):
            what = f"the gateway refused an entry: {answer.get('error')}"
            raise TestRefused("gateway", what, str(answer.get("cause")))
        index = int(answer["index"])
        self._size = index + 1
        return index, dict(fields)

    def tell(self, word: str) -> None:
        """Say something that is not answered."""
        self._writer.write(json.dumps({"verb": word}).encode() + b"\n")

    def status(self) -> LedgerStatus:
        """Return how many entries there were after the last one written here."""
        return LedgerStatus(size=self._size, checkpoint="", anchored=False)

    async def close(self) -> None:
        """Give control back in order."""
        try:
            async with asyncio.timeout(5.0), self._asking:
                await ask_on(self._reader, self._writer, {"verb": "return"})
        except (OSError, ValueError, TimeoutError):
            return  # the gateway took it back already
        finally:
            self._writer.close()
