"""The page's door where accounts are named: a form, a cookie, a lock, and a word for the audit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from html import escape
from urllib.parse import urlsplit

from aiohttp import web

from gateway.hmi.accounts import Account, Accounts, matches
from gateway.hmi.doorkeeper import LIFE_S, Doorkeeper
from gateway.hmi.language import LANGUAGES, Words
from gateway.hmi.shell import where
from gateway.model.errors import ConfigError

COOKIE = "sopgw-session"
WAITING_MAX = 8  # passwords being checked or waiting; more are sent away
BODY_BYTES_MAX = 1024
NAME_CHARS_MAX = 64
UNKNOWN = "unknown"

Audit = Callable[[str, str, str], Awaitable[None]]  # event, name, address


async def unheard(_event: str, _name: str, _address: str) -> None:
    """The audit of a page that has none."""


class Login:
    """Lets people in; ``audit`` hears of entries, refusals, locks and leavings."""

    def __init__(
        self,
        accounts: Accounts,
        audit: Audit = unheard,
        *,
        secure: bool,
        names: Collection[str] = (),
    ) -> None:
        """Guard with the people of ``accounts``.

        Args:
            accounts: who may come in.
            audit: hears of entries, refusals, locks and leavings.
            secure: keeps the cookie to HTTPS.
            names: under which a proxy hands the page on: their forms are our own too.
        """
        self._accounts, self._audit, self._secure = accounts, audit, secure
        self._names = frozenset(name.lower() for name in names)
        self._keeper = Doorkeeper()
        self._one_at_a_time = asyncio.Lock()
        self._waiting_count = 0

    def admits(self, request: web.Request, *, touch: bool) -> bool:
        """Tell whether a request comes from somebody inside; a stream does not keep one awake."""
        visitor = self._keeper.who(request.cookies.get(COOKIE, ""), now_s=_now_s(), touch=touch)
        if visitor is None:
            return False
        try:
            self._accounts.refresh()
        except (ConfigError, OSError):
            return False  # a file that cannot be read admits nobody
        account = self._accounts.get(visitor.name)
        if account is None or account.role != visitor.role:
            self._keeper.throw_out(visitor.name)
            return False
        return True

    async def form(self, request: web.Request) -> web.StreamResponse:
        """Show the form."""
        return _form(Words(_language(request)), "")

    async def enter(self, request: web.Request) -> web.StreamResponse:
        """Check what was typed; a wrong name and a wrong password look the same."""
        words = Words(_language(request))
        if not _same_origin(request, self._names):
            raise web.HTTPForbidden(text="cross-site request\n")
        try:
            typed = await request.post()
        except (ValueError, LookupError):  # no such encoding, half a character, no boundary
            raise web.HTTPBadRequest(text="not a form\n") from None
        name, password = str(typed.get("name", "")), str(typed.get("password", ""))
        name = name[:NAME_CHARS_MAX]
        address = request.remote or ""
        left_s = self._keeper.locked_s(name=name, address=address, now_s=_now_s())
        if left_s > 0:
            said = words("login.locked", minutes=int(left_s // 60) + 1)
            return _form(words, said, status=429)
        if self._waiting_count >= WAITING_MAX:
            return _form(words, words("login.busy"), status=503)
        account = await self._checked(name, password)
        if account is None:
            locks = self._keeper.failed(name=name, address=address, now_s=_now_s())
            # What a stranger typed as a name may be a password typed in the wrong field.
            known = name if self._accounts.get(name) else UNKNOWN
            await self._audit("locked" if locks else "refused", known, address)
            return _form(words, words("login.wrong"), status=401)
        token = self._keeper.enter(name=name, role=account.role, address=address, now_s=_now_s())
        await self._audit("entered", name, address)
        answer = web.Response(status=303, headers={"Location": where("overview", words.language)})
        answer.set_cookie(
            COOKIE, token, httponly=True, samesite="Strict", secure=self._secure, max_age=LIFE_S
        )
        return answer

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """End the session."""
        if not _same_origin(request, self._names):
            raise web.HTTPForbidden(text="cross-site request\n")
        visitor = self._keeper.leave(request.cookies.get(COOKIE, ""))
        if visitor is not None:
            await self._audit("left", visitor.name, request.remote or "")
        answer = web.Response(status=303, headers={"Location": f"/{_language(request)}/login"})
        answer.del_cookie(COOKIE)
        return answer

    async def _checked(self, name: str, password: str) -> Account | None:
        """Check a password in a thread, one at a time: it takes time and memory on purpose."""
        try:
            self._accounts.refresh()
        except (ConfigError, OSError):
            return None
        account = self._accounts.get(name)
        self._waiting_count += 1
        try:
            async with self._one_at_a_time:
                right = await asyncio.to_thread(matches, account, password)
        finally:
            self._waiting_count -= 1
        return account if right else None


def _form(words: Words, said: str, *, status: int = 200) -> web.Response:
    note = f'<p class="bad" role="alert">✕ {escape(said)}</p>' if said else ""
    text = (
        f'<!doctype html>\n<html lang="{words.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(words('login.title'))}</title>"
        '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/style.css">'
        '<link rel="stylesheet" href="/static/page.css"></head><body>'
        '<main id="content"><section class="login">'
        f"<h1>sop-gateway · {escape(words('login.title'))}</h1>{note}"
        f'<form class="login" method="post" action="/{words.language}/login">'
        f'<label for="name">{escape(words("login.name"))}</label>'
        '<input id="name" name="name" autocomplete="username" required maxlength="64">'
        f'<label for="password">{escape(words("login.password"))}</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" '
        'required maxlength="256">'
        f'<button type="submit">{escape(words("login.enter"))}</button></form></section></main>'
        "</body></html>"
    )
    return web.Response(text=text, content_type="text/html", status=status)


def _language(request: web.Request) -> str:
    language = request.match_info.get("language", "en")
    return language if language in LANGUAGES else "en"


def _same_origin(request: web.Request, names: Collection[str]) -> bool:
    """Tell whether a form came from our own page; a browser names where it came from.

    A proxy may ask under its own name for us: then only ``names`` tell.
    """
    try:
        origin = urlsplit(request.headers.get("Origin", ""))
        return bool(origin.netloc) and (
            origin.netloc == request.headers.get("Host", "") or origin.hostname in names
        )
    except ValueError:
        return False


def _now_s() -> float:
    return asyncio.get_running_loop().time()
