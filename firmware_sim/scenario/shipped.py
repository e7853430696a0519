"""Where the scenarios that come with the project lie, beside the sources or installed."""

from __future__ import annotations

import sys
from pathlib import Path


def folders() -> tuple[Path, ...]:
    """Folders that may hold them, nearest first."""
    beside = Path(__file__).resolve().parents[2] / "configs" / "scenarios"
    installed = Path(sys.prefix) / "share" / "sopgw" / "scenarios"
    return tuple(folder for folder in (beside, installed) if folder.is_dir())


def shipped() -> dict[str, Path]:
    """Scenarios by name."""
    found: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def locate(name: str) -> Path:
    """A path as given, or a shipped scenario by its name."""
    path = Path(name)
    return path if path.exists() else shipped().get(name, path)
