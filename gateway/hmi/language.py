"""The words people read, in four languages; keys are the program's own words.

A missing key is an error at once, never an English word in a Chinese page; a test holds the four
catalogues to the same keys and placeholders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

LANGUAGES = ("en", "zh", "de", "es")


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return one language's words; an unknown language is a LookupError."""
    if language not in LANGUAGES:
        raise LookupError(f"no catalogue for {language!r}; there are {', '.join(LANGUAGES)}")
    text = files("gateway.hmi").joinpath(f"languages/{language}.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words, with their places filled in."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a key."""
        return catalogue(self.language)[key].format(**values)

    def has(self, key: str) -> bool:
        """Tell whether there is a text of that key."""
        return key in catalogue(self.language)

    def status(self, status: str) -> str:
        """Return a delivery status in words; one unknown to the catalogue stays as it is."""
        key = f"status.{status}"
        return self(key) if self.has(key) else status

    def reason(self, reason: str | Mapping[str, Any]) -> str:
        """Return a reason in words; ``code: detail`` and mappings keep their detail in brackets."""
        if isinstance(reason, Mapping):
            word, detail = str(reason.get("code", "")), str(reason.get("detail", ""))
        else:
            word, _, detail = reason.partition(":")
        key = f"reason.{word.strip()}"
        if detail.strip() and self.has(f"{key}_because"):  # the detail says what came of it
            key += "_because"
        said = self(key) if self.has(key) else word.strip().replace("_", " ")
        return f"{said} ({detail.strip()})" if detail.strip() else said

    def reasons(self, reasons: object) -> str:
        """Return a list of reasons as one text."""
        if not isinstance(reasons, (list, tuple)):
            return ""
        return "; ".join(self.reason(r) for r in reasons)
