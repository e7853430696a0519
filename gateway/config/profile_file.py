"""Reads a profile file into the values the drivers use; every mistake at once, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gateway.config import profile_build, profile_checks, shape
from gateway.config.problem import errors_in
from gateway.config.profile_folders import find_profile, profile_paths
from gateway.config.profile_merge import merged
from gateway.config.profile_shape import ProfileShape
from gateway.config.profile_vectors import check_vectors_decode
from gateway.config.yaml_reader import Document, nearest, read_file, read_text
from gateway.devices.profile import Profile

__all__ = [
    "build_profile",
    "check_profile",
    "find_profile",
    "load_profile",
    "nearest_profile",
    "profile_from_text",
    "profile_paths",
]
PREFIX = "P"


def nearest_profile(name: str, search: Sequence[Path] = ()) -> str | None:
    """Return the profile that was probably meant."""
    return nearest(name, [p.stem for p in profile_paths(search)])


def load_profile(
    name_or_path: str | Path, search: Sequence[Path] = (), *, beside: Sequence[Path] = (Path(),)
) -> Profile:
    """Read a profile by name or path; raise ConfigFileError with every problem."""
    path = find_profile(str(name_or_path), search, beside=beside)
    if path is None:
        document = Document(file=str(name_or_path), prefix=PREFIX)
        near = nearest_profile(str(name_or_path), search)
        help_text = f"did you mean `{near}`?" if near else "`sopgw profile ls` lists them"
        document.add(1, f"there is no profile {shape.quoted(name_or_path)}", None, help=help_text)
        document.raise_if_failed()
        raise AssertionError("a missing profile is an error")
    document, profile = check_profile(path)
    document.raise_if_failed()
    assert profile is not None, "a profile without errors can be built"
    return profile


def check_profile(path: Path, *, vectors: bool = True) -> tuple[Document, Profile | None]:
    """Read a profile file; the document holds every problem, warnings included."""
    document = read_file(path, prefix=PREFIX)
    profile = build_profile(document, vectors=vectors)
    if profile is not None and path.suffix in (".yaml", ".yml") and profile.id != path.stem:
        node = document.root.get("profile") if document.root else None
        document.warn(
            26,
            f"the profile calls itself “{profile.id}” and the file “{path.name}”",
            node,
            help=f"name the file `{profile.id}.yaml`: profiles are found by file name",
        )
    return document, profile


def profile_from_text(text: str, *, file: str) -> tuple[Document, Profile | None]:
    """Like check_profile for text."""
    document = read_text(text, file=file, prefix=PREFIX)
    return document, build_profile(document)


def build_profile(document: Document, *, vectors: bool = True) -> Profile | None:
    """Turn a read document into a profile, None when anything forbids it.

    Without ``vectors`` they are not run: the caller does.
    """
    root = document.root
    if root is None or root.kind != "map":
        return None
    if root.key("site") and not root.key("profile"):
        message = "this is a site file, not a device profile"
        document.add(17, message, root.key("site"), help=f"sopgw config check {document.file}")
        return None
    whole = merged(document, root)
    found = shape.held_against(document, ProfileShape, whole)
    profile_checks.check(document, whole)
    if found is None or document.failed:
        return None
    profile = profile_build.profile_of(found)
    if vectors:
        check_vectors_decode(document, whole, profile)
    return None if errors_in(document.problems) else profile
