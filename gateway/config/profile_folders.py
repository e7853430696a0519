"""Where profiles lie; light enough for a Tab press."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path


def shipped_folders() -> tuple[Path, ...]:
    """Folders with the profiles that come with the program, the source tree first."""
    tree = Path(__file__).resolve().parents[2] / "configs" / "profiles"
    installed = Path(sys.prefix) / "share" / "sopgw" / "profiles"
    return tuple(folder for folder in (tree, installed) if folder.is_dir())


def profile_paths(search: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield every profile file in the given folders, then in the shipped ones."""
    seen = set()
    for folder in (*search, *shipped_folders()):
        for path in sorted(folder.glob("*.yaml")):
            if path.stem not in seen:
                seen.add(path.stem)
                yield path


def find_profile(
    name_or_path: str, search: Sequence[Path] = (), *, beside: Sequence[Path] = (Path(),)
) -> Path | None:
    """Return the file of a profile given by name or by path; None when there is none.

    A path is sought ``beside`` what names it: the folder one types in, or that of the site file.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        given = Path(name_or_path)
        for base in beside:
            try:
                found = (base / given).is_file()
            except OSError:  # a name too long, or a folder that must not be searched
                found = False
            if found:
                return base / given
        return None
    return next((p for p in profile_paths(search) if p.stem == name_or_path), None)
