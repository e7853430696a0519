"""How the ledger's programs open an HTTP door: what is malformed is answered, not written down."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.http import HttpProcessingError
from typing_extensions import override

if TYPE_CHECKING:
    from aiohttp.web import Application

http_log = logging.getLogger(f"{__name__}.http")


class BadRequestsUnsaid(logging.Filter):
    """Keeps malformed and broken off requests out of the log: anybody could fill it with them."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything else pass."""
        wrong = record.exc_info[1] if record.exc_info else None
        return not isinstance(wrong, HttpProcessingError | ConnectionError)


http_log.addFilter(BadRequestsUnsaid())


def runner_of(application: Application) -> web.AppRunner:
    """Return what serves an application."""
    return web.AppRunner(application, access_log=None, logger=http_log)
