"""The frame around every page: status bar, navigation, panels, languages.

No inline script or style: the content security policy forbids both.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gateway.hmi import svg
from gateway.hmi.language import LANGUAGES, Words
from gateway.hmi.live_parts import Part
from gateway.hmi.state import SiteView

PAGES = ("overview", "trades", "ledger", "points", "alarms", "commissioning", "system")
NAMES = {"en": "English", "zh": "中文", "de": "Deutsch", "es": "Español"}


def where(page: str, language: str) -> str:
    """Return a page's address in a language; the overview stands at the language's root."""
    return f"/{language}/" if page == "overview" else f"/{language}/{page}"


def title(view: SiteView, page: str, words: Words) -> str:
    """Return the window's title; it carries the number of active alarms."""
    active = sum(a.stands for a in view.alarms)
    count = f"({active}) " if active else ""
    return f"{count}{view.sop} · {words(f'nav.{page}')}"


def status_bar(view: SiteView, words: Words, *, frozen: bool) -> str:
    """Return the line that stands on every page: who, mode, state, time, ages, ledger, alarms."""
    name = f" {view.name}" if view.name else ""
    items = [f"<strong>{escape(f'{view.sop} {view.site}{name}')}</strong>"]
    if frozen:
        items.append(f'<span class="bad">✕ {escape(words("page.frozen"))}</span>')
    if view.simulated:
        items.append(f'<span class="banner"><span>{escape(words("page.simulated"))}</span></span>')
    items.append(f'<span class="boxed">{escape(words("bar.mode"))} {escape(view.mode)}</span>')
    items.append(f'<span class="boxed">{escape(words("bar.state"))} {escape(view.state)}</span>')
    if view.reasons:
        items.append(f'<span class="warn">! {escape(words.reasons(view.reasons))}</span>')
    clock = svg.utc_text(view.utc_us, "%H:%M:%S") + " UTC"
    if view.clock_error_ms is not None:
        clock += f" {words('bar.clock', ms=view.clock_error_ms)}"
    items.append(f'<span id="utc">{escape(clock)}</span>')
    if view.time_quality != "good":
        key = f"quality.{view.time_quality}"
        said = words(key) if words.has(key) else view.time_quality
        items.append(f'<span class="warn">{escape(words("system.time"))}: {escape(said)}</span>')
    stale = words("bar.stale", stale=len(view.stale), count=len(view.devices))
    items.append(
        f'<span class="warn">? {escape(stale)}</span>'
        if view.stale
        else f"<span>{escape(stale)}</span>"
    )
    mark = {True: " ✓", False: " ✕", None: ""}[view.ledger.checked_ok]
    items.append(f"<span>{escape(words('bar.ledger', size=view.ledger.size) + mark)}</span>")
    counts = [sum(a.stands and a.priority_level == n for a in view.alarms) for n in (1, 2, 3)]
    said = words("bar.alarms", high=counts[0], medium=counts[1], low=counts[2])
    css = ' class="warn"' if any(counts) else ""
    items.append(f"<span{css}>{escape(said)}</span>")
    return "".join(items)


def panel(part: Part) -> str:
    """Return one part in its section; the inner element is what updates replace."""
    live = f' aria-live="{part.live}"' if part.live else ""
    return (
        f'<section aria-labelledby="h-{part.name}">'
        f'<h2 id="h-{part.name}">{escape(part.heading)}</h2>'
        f'<div id="part-{part.name}"{live}>{part.html}</div></section>'
    )


def _columns(parts: Sequence[Part]) -> str:
    """Return the panels in two columns, wide and narrow, or in one where none is narrow."""
    wide = "".join(panel(p) for p in parts if p.wide)
    narrow = "".join(panel(p) for p in parts if not p.wide)
    if not narrow:
        return f"<div>{wide}</div>"
    return f'<div class="panels"><div>{wide}</div><div>{narrow}</div></div>'


def whole(
    view: SiteView,
    page: str,
    parts: Sequence[Part],
    words: Words,
    *,
    revision: str,
    frozen: bool = False,
    events: bool = True,
    heading: str | None = None,
    leave: bool = False,
) -> str:
    """Return the page as one document.

    Args:
        view: what the site looks like now.
        page: one of PAGES; marks the place in the navigation.
        parts: the panels in order.
        words: the reader's language.
        revision: changes with the program, so that a page left open loads the new one.
        frozen: the gateway's scan stands still.
        events: follow the site by server-sent events.
        heading: the page's heading where it is not the page's name.
        leave: offer to log out.
    """
    nav = "".join(
        f'<a href="{where(p, words.language)}"{_current(p == page)}>{escape(words(f"nav.{p}"))}</a>'
        for p in PAGES
    )
    languages = "".join(
        f'<a href="{where(page, code)}" hreflang="{code}" lang="{code}"'
        f"{_current(code == words.language)}>{NAMES[code]}</a>"
        for code in LANGUAGES
    )
    out = (
        f'<form method="post" action="/{words.language}/logout">'
        f'<button type="submit">{escape(words("login.leave"))}</button></form>'
        if leave
        else ""
    )
    follow = f' data-events="/events/{words.language}/{page}"' if events else ""
    return (
        f'<!doctype html>\n<html lang="{words.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title(view, page, words))}</title>"
        '<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/style.css">'
        '<link rel="stylesheet" href="/static/page.css">'
        '<noscript><meta http-equiv="refresh" content="10"></noscript>'
        f'<script type="module" src="/static/live.js"></script></head>'
        f'<body data-revision="{escape(revision)}"{follow}>'
        f'<a class="skip" href="#content">{escape(words("page.skip"))}</a>'
        f'<header class="bar"><div id="status" role="group" '
        f'aria-label="{escape(words("bar.status"))}">{status_bar(view, words, frozen=frozen)}</div>'
        f'<p id="lost" class="bad" role="status" hidden>✕ {escape(words("page.lost"))}</p>'
        f'<nav aria-label="{escape(words("nav.pages"))}">{nav}</nav></header>'
        f'<main id="content" tabindex="-1"><h1>{escape(heading or words(f"nav.{page}"))}</h1>'
        f"{_columns(parts)}</main>"
        f"<footer><p>{escape(words('page.read_only'))}</p>"
        f'<nav aria-label="{escape(words("nav.languages"))}">{languages}</nav>{out}</footer>'
        "</body></html>\n"
    )


def _current(yes: bool) -> str:  # noqa: FBT001 - a word of the markup, not a switch
    return ' aria-current="page"' if yes else ""
