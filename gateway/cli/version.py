"""``sopgw version``: versions of the parts, for a report."""

from __future__ import annotations

import platform
from importlib import metadata

from gateway.cli.output import command, emit

PARTS = (
    "aiohttp",
    "aiomqtt",
    "apsw",
    "click",
    "cryptography",
    "msgspec",
    "pydantic",
    "ruamel.yaml",
)


@command(
    "version",
    schema="version",
    examples=(
        ("sopgw version", "what runs here"),
        ("sopgw version --json", "the same for a bug report"),
    ),
)
def version() -> None:
    """Show the version of the program and of the parts it stands on."""
    own = metadata.version("sop-gateway")
    parts = {}
    for name in PARTS:
        try:
            parts[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            parts[name] = "not installed"
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    python = platform.python_version()
    lines = [f"sopgw {own}", f"Python {python}", system]
    lines += [f"{name} {found}" for name, found in parts.items()]
    emit(
        {"version": own, "python": python, "system": system, "parts": parts},
        text="\n".join(lines),
    )
