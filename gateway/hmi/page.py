"""The read-only page over HTTP: documents, server-sent events, receipts, metrics.

Nothing here can change the site: there is no route but GET, except the login's own where accounts
are named. Every answer carries a content
security policy that admits nothing but our own files; requests under a foreign host name are
refused, so that a page elsewhere cannot read ours through a reader's browser.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from hashlib import sha256
from importlib.resources import files
from ipaddress import ip_address

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from typing_extensions import override

from gateway.hmi import live_parts, metrics, record_parts, shell
from gateway.hmi.language import LANGUAGES, Words
from gateway.hmi.live_parts import Part
from gateway.hmi.login import Login
from gateway.hmi.records import ReceiptNotMade
from gateway.hmi.state import Records, SiteView
from gateway.hmi.trend import Trend

log = logging.getLogger(__name__)
http_log = logging.getLogger(f"{__name__}.http")

READERS_MAX = 32  # open event streams: a control room and some phones
WRITE_TIMEOUT_S = 10.0  # a reader that takes no bytes for so long is let go
FROZEN_TICKS = 10  # ticks without a new scan until the page says that it stands still
LATEST_MAX = 300  # most are readings, of which one stands for all in a row
STATIC = {
    "style.css": "text/css",
    "page.css": "text/css",
    "live.js": "text/javascript",
    "receipt.js": "text/javascript",
    "settle.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
POLICY = "Content-Security-Policy"
HEADERS = {
    POLICY: (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: a browser then says no origin with a form, and the login refuses its own.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
OPEN_PATH = re.compile(r"/[^/]+/(login|logout)")  # the form itself; a trade may be called so too
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
LOCAL_ADDRESSES = frozenset({"127.0.0.1", "::1"})
PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")  # by a proxy, for a stranger
ID = r"[A-Za-z0-9._:@+\-]{1,64}"


class BadRequestsUnsaid(logging.Filter):
    """Keeps malformed and broken off requests out of the log: anybody could fill it with them."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything else pass."""
        wrong = record.exc_info[1] if record.exc_info else None
        return not isinstance(wrong, BadHttpMessage | ConnectionError)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The page of one site; ``views`` gives the newest view, ``records`` what the ledger knows."""

    def __init__(
        self,
        views: Callable[[], SiteView],
        records: Records,
        *,
        names: Collection[str] = (),
        period_s: float = 1.0,
        tls: ssl.SSLContext | None = None,
        login: Login | None = None,
        frozen_ticks: int = FROZEN_TICKS,
    ) -> None:
        """Prepare the page without opening anything.

        Args:
            views: returns the site's newest view; called once a period, never concurrently.
            records: what may be asked of the ledger.
            names: host names beside the loopback ones under which the page may be asked for.
            period_s: real seconds between two looks at the site.
            tls: serves HTTPS with this context.
            login: lets in only who has an account; metrics stay open to this machine.
            frozen_ticks: periods without a scan until the page says that it stands still.
        """
        self._views, self._records = views, records
        self._names = LOCAL_NAMES | {n.lower() for n in names}
        self._period_s, self._tls, self._login = period_s, tls, login
        self._frozen_ticks = frozen_ticks
        # A form may be sent home, where there is one.
        form = "'self'" if login else "'none'"
        policy = HEADERS[POLICY].replace("form-action 'none'", f"form-action {form}")
        self._headers = HEADERS | {POLICY: policy}
        self._trend = Trend()
        self._view = views()
        self._idle_count = 0
        self._parts: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
        self._made: dict[tuple[str, str], str] = {}  # whole answers of this tick
        self._changed = asyncio.Condition()
        self._stopping = asyncio.Event()
        self._reader_count = 0
        self._runner: web.AppRunner | None = None
        self._sampler: asyncio.Task[None] | None = None  # ended and awaited by stop()
        self._static = {
            name: files("gateway.hmi").joinpath(f"static/{name}").read_bytes() for name in STATIC
        }
        program = b"".join(self._static[name] for name in sorted(self._static))
        self._revision = sha256(program + self._view.version.encode()).hexdigest()[:16]

    async def start(self, host: str, port: int) -> int:
        """Open the page and return the port it listens on."""
        self._sampler = asyncio.create_task(self._sample())
        self._sampler.add_done_callback(_tell_failure)
        if not http_log.filters:
            http_log.addFilter(BadRequestsUnsaid())
        self._runner = web.AppRunner(
            self._app(), access_log=None, shutdown_timeout=1.0, logger=http_log
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=self._tls)
        await site.start()
        opened: tuple[str, int] = self._runner.addresses[0][:2]
        log.info("page open host=%s port=%d", opened[0], opened[1])
        return opened[1]

    async def stop(self) -> None:
        """End the event streams, close the door and wait until nothing of it runs."""
        self._stopping.set()
        async with self._changed:
            self._changed.notify_all()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._sampler is not None:
            await self._sampler

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        if self._login is not None:
            app.router.add_get("/{language:[a-z]{2}}/login", self._login.form)
            app.router.add_post("/{language:[a-z]{2}}/login", self._login.enter)
            app.router.add_post("/{language:[a-z]{2}}/logout", self._login.leave)
        app.router.add_get("/", self._root)
        app.router.add_get("/state.json", self._state)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/static/{name}", self._file)
        app.router.add_get(rf"/receipts/{{trade_id:{ID}}}.json", self._receipt)
        app.router.add_get("/events/{language:[a-z]{2}}/{page:[a-z]+}", self._events)
        app.router.add_get("/{language:[a-z]{2}}/", self._document)
        app.router.add_get(rf"/{{language:[a-z]{{2}}}}/trades/{{trade_id:{ID}}}", self._trade)
        app.router.add_get("/{language:[a-z]{2}}/{page:[a-z]+}", self._document)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse foreign host names and give every answer the same strict headers."""
        name = request.headers.get("Host", "").lower()
        bare = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
        if bare not in self._names and not _is_own_address(request, bare):
            return web.Response(status=421, text="unknown host name\n", headers=self._headers)
        try:
            response = self._sent_to_login(request) or await handler(request)
        except web.HTTPException as told:
            told.headers.update(self._headers)
            raise
        if not response.prepared:
            response.headers.update(self._headers)
        return response

    def _sent_to_login(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer to a stranger, None for whoever may go on."""
        login, path = self._login, request.path
        if login is None or path.startswith("/static/") or OPEN_PATH.fullmatch(path):
            return None
        passed_on = any(name in request.headers for name in PASSED_ON)
        if path == "/metrics" and request.remote in LOCAL_ADDRESSES and not passed_on:
            return None  # Prometheus beside the gateway has no cookie
        if login.admits(request, touch=not path.startswith("/events/")):
            return None
        if "text/html" not in request.headers.get("Accept", ""):
            return web.Response(status=401, text="log in first\n")
        language = path.split("/")[1]
        place = language if language in LANGUAGES else self._language_of(request)
        return web.Response(status=303, headers={"Location": f"/{place}/login"})

    async def _sample(self) -> None:
        """Look at the site once a period until stopped, and wake the event streams."""
        while not self._stopping.is_set():
            view = self._views()
            stands = view.scanned_us == self._view.scanned_us
            self._idle_count = self._idle_count + 1 if stands else 0
            self._view = view
            self._trend.add(view)
            self._parts.clear()
            self._made.clear()
            async with self._changed:
                self._changed.notify_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._period_s):
                    await self._stopping.wait()

    @property
    def _frozen(self) -> bool:
        return self._idle_count >= self._frozen_ticks

    async def _root(self, request: web.Request) -> web.StreamResponse:
        """Send the reader to the overview in the first language both know."""
        raise web.HTTPFound(shell.where("overview", self._language_of(request)))

    def _language_of(self, request: web.Request) -> str:
        wanted = request.headers.get("Accept-Language", "").lower()[:200].split(",")
        offered = (w.strip().split(";")[0].split("-")[0] for w in wanted)
        return next((w for w in offered if w in LANGUAGES), "en")

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in STATIC:
            raise web.HTTPNotFound(text="no such file\n")
        return web.Response(body=self._static[name], content_type=STATIC[name], charset="utf-8")

    async def _state(self, _request: web.Request) -> web.StreamResponse:
        key = ("state", "")
        if key not in self._made:
            self._made[key] = msgspec.json.encode(self._view).decode()
        return web.Response(text=self._made[key], content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        body = metrics.render(self._views())
        return web.Response(body=body.encode(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _receipt(self, request: web.Request) -> web.StreamResponse:
        trade_id = request.match_info["trade_id"]
        try:
            body = await self._records.receipt(trade_id)
        except ReceiptNotMade:
            text = f"not made here: sopgw trade receipt {trade_id}\n"
            raise web.HTTPServiceUnavailable(text=text) from None
        if body is None:
            raise web.HTTPNotFound(text="no receipt of this trade yet\n")
        return web.Response(
            body=body,
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{trade_id}.json"'},
        )

    def _asked(self, request: web.Request) -> tuple[str, Words]:
        page = request.match_info.get("page", "overview")
        language = request.match_info["language"]
        if page not in shell.PAGES or language not in LANGUAGES:
            raise web.HTTPNotFound(text="no such page\n")
        return page, Words(language)

    async def _document(self, request: web.Request) -> web.StreamResponse:
        page, words = self._asked(request)
        more: list[Part] = []
        if page == "ledger":
            entries = await self._records.latest_entries(LATEST_MAX)
            more = [record_parts.check(words), record_parts.latest(entries, words)]
        key = (page, words.language)
        text = self._made.get(key)
        if text is None or more:
            text = self._made[key] = shell.whole(
                self._view,
                page,
                [*self._live(page, words), *more],
                words,
                revision=self._revision,
                frozen=self._frozen,
                leave=self._login is not None,
            )
        return web.Response(text=text, content_type="text/html")

    async def _trade(self, request: web.Request) -> web.StreamResponse:
        page, words = "trades", self._asked(request)[1]
        trade_id = request.match_info["trade_id"]
        entries = await self._records.trade_entries(trade_id)
        known = bool(entries) or any(t.id == trade_id for t in self._view.trades)
        text = shell.whole(
            self._view,
            page,
            record_parts.trade(self._view.trades, entries, trade_id, words),
            words,
            revision=self._revision,
            frozen=self._frozen,
            heading=words("trade.one", id=trade_id),
            leave=self._login is not None,
        )
        return web.Response(text=text, content_type="text/html", status=200 if known else 404)

    def _live(self, page: str, words: Words) -> Sequence[Part]:
        """Return the parts of a page that follow the site."""
        view = self._view
        match page:
            case "overview":
                return live_parts.overview(view, self._trend, words)
            case "trades":
                return [
                    live_parts.trades_now(view, words),
                    live_parts.trades_table(view, words),
                    live_parts.refused(view, words),
                ]
            case "ledger":
                html = live_parts.ledger_facts(view, words)
                return [Part(name="ledger", heading=words("report.ledger"), html=html)]
            case "points":
                return [live_parts.points(view, words)]
            case "alarms":
                return [live_parts.alarms(view, words, heading=words("nav.alarms"))]
            case "commissioning":
                return [live_parts.commissioning(view, words)]
            case _:
                return live_parts.system(view, words)

    def _told(self, page: str, words: Words) -> tuple[str, dict[str, str]]:
        """Return a page's title and elements of this tick, made once for all its readers."""
        key = (page, words.language)
        if key not in self._parts:
            told = {f"part-{p.name}": p.html for p in self._live(page, words)}
            told["status"] = shell.status_bar(self._view, words, frozen=self._frozen)
            self._parts[key] = (shell.title(self._view, page, words), told)
        return self._parts[key]

    def _still_inside(self, request: web.Request) -> bool:
        return self._login is None or self._login.admits(request, touch=False)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send what changed, tick after tick, until the reader or the page goes."""
        page, words = self._asked(request)
        if self._reader_count >= READERS_MAX:
            raise web.HTTPServiceUnavailable(text="too many readers\n")
        response = web.StreamResponse(headers=self._headers | {"Content-Type": "text/event-stream"})
        self._reader_count += 1
        try:
            await response.prepare(request)
            await response.write(b"retry: 2000\n\n")
            sent: dict[str, str] = {}
            while not self._stopping.is_set() and self._still_inside(request):
                title, told = self._told(page, words)
                fresh = {k: v for k, v in told.items() if sent.get(k) != v}
                body = {"revision": self._revision, "title": title, "parts": fresh}
                line = f"event: parts\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await response.write(line.encode())
                sent = told
                async with self._changed:
                    await self._changed.wait()
        except (ConnectionError, TimeoutError):
            log.debug("reader gone page=%s", page)
        finally:
            self._reader_count -= 1
        return response


def _is_own_address(request: web.Request, name: str) -> bool:
    """Tell whether a request names the address it came in on: no name service can turn that."""
    if request.transport is None:
        return False
    came_in_on = request.transport.get_extra_info("sockname")
    try:
        return ip_address(name.strip("[]")) == ip_address(came_in_on[0])
    except (TypeError, ValueError):  # a name, or nowhere any more
        return False


def _tell_failure(sampler: asyncio.Task[None]) -> None:
    """Log that the page has lost sight of the site; its readers see their values grow old."""
    if not sampler.cancelled() and (error := sampler.exception()) is not None:
        log.error("the page sees nothing any more: %r", error)
