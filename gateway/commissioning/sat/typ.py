"""The report as Typst source, for archives that want tagged PDF/A-3: drawn by whoever compiles it.

The source reads ``report.json`` beside it; this file adds only headings in the report's language.
"""

from __future__ import annotations

import json
from importlib.resources import files

from gateway.commissioning.sat.words import WORDS

# Of Debian and of Typst itself; what is missing is passed over.
FONTS = ("Noto Sans", "DejaVu Sans", "WenQuanYi Zen Hei", "Libertinus Serif")


def render(language: str) -> bytes:
    """Write the source; the same language gives the same bytes."""
    template = files("gateway.commissioning.sat").joinpath("report.typ").read_text("utf-8")
    words = ", ".join(f"{_text(k)}: {_text(v)}" for k, v in WORDS[language].items())
    fonts = ", ".join(_text(name) for name in FONTS)
    return f"#let words = ({words})\n#let fonts = ({fonts})\n{template}".encode()


def _text(plain: str) -> str:
    """Write a string of Typst: like one of JSON, for text without control characters."""
    assert plain.isprintable(), "headings are plain text"
    return json.dumps(plain, ensure_ascii=False)
