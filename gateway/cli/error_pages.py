"""A page for every error code: what it means, why it matters, how to mend it (errors.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("errors.md")
SHARED = "x"  # first letter of codes that site files, profiles and alarm files share
SHARING = "CPR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One code explained."""

    title: str
    why: str
    mend: str

    def text(self, code: str) -> str:
        """Write the page."""
        return f"{code}  {self.title}\n\n{self.why}\n\nMend: {self.mend}"


def pages() -> Mapping[str, Page]:
    """Read every page, by code."""
    found: dict[str, Page] = {}
    for block in SOURCE.read_text(encoding="utf-8").split("\n## ")[1:]:
        head, _, body = block.partition("\n")
        code, _, title = head.partition(" ")
        why, _, mend = " ".join(body.split()).partition(" Mend: ")
        page = Page(title=title, why=why, mend=mend)
        if code.startswith(SHARED):
            found |= {letter + code[1:]: page for letter in SHARING}
        else:
            found[code] = page
    return found
