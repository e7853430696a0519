"""Makes the page's receipts in a child: a long ledger costs the gateway no memory.

The child is ``sopgw trade receipt`` at the lowest priority, with a limit on what it may take; one
that needs more leaves the reader without the file, who then makes it on the machine itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import sys
import tempfile
from pathlib import Path

from gateway.cli.full_check import NICE
from gateway.cli.output import ExitCode
from gateway.hmi.records import ReceiptNotMade

log = logging.getLogger(__name__)

MEMORY_BYTES_MAX = 384 << 20  # half of what the unit gives the gateway and its children
FILE_BYTES_MAX = 64 << 20  # a day of readings every five seconds stays below
NONE_YET = b'"T106"'
REAL_S_MAX = 600  # a ledger of a year is read in some minutes


async def receipt_file(directory: Path, trade_id: str) -> bytes | None:
    """Return the receipt of a trade from a ledger folder, None where there is none yet.

    Raises:
        ReceiptNotMade: the child failed, or wanted more than it may have.
    """
    with tempfile.TemporaryDirectory(prefix="sopgw-") as folder:
        file = Path(folder, "receipt.json")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "trade", "receipt", "--json",
            "--ledger", str(directory), "-o", str(file), "--", trade_id,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        told = b""
        try:
            with contextlib.suppress(OSError):  # it has ended already
                resource.prlimit(child.pid, resource.RLIMIT_DATA, (MEMORY_BYTES_MAX,) * 2)
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (FILE_BYTES_MAX,) * 2)
                os.setpriority(os.PRIO_PROCESS, child.pid, NICE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REAL_S_MAX):
                    told, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode == ExitCode.OK:
            return await asyncio.to_thread(file.read_bytes)
    if NONE_YET in told:
        return None
    log.warning("no receipt trade=%s code=%s: sopgw trade receipt", trade_id, child.returncode)
    raise ReceiptNotMade(trade_id)
