"""Makes a first site file from the shipped bench; a person then puts in real addresses."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HEAD = """\
# yaml-language-server: $schema={schema}
# Site file of {name}. It starts as the bench: put in your devices, limits, the market's key, then
#   sopgw config check {file}
# The gateway computes and writes nothing until `mode:` is `on`. Every key: docs/configuration.md
"""


def bench_file() -> Path:
    """Return the shipped bench site, the source tree first."""
    tree = Path(__file__).resolve().parents[2] / "configs" / "sites" / "bench4.yaml"
    return (
        tree if tree.is_file() else Path(sys.prefix) / "share" / "sopgw" / "sites" / "bench4.yaml"
    )


def site_id_of(name: str) -> str:
    """Make an id for topics and the ledger of a site's name."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join(words)[:40] or "site"


def new_site(*, name: str, timezone: str, file: str, schema: str) -> str:
    """Return the text of a first site file: the bench, blocked, under its own name."""
    site_id = site_id_of(name)
    text = bench_file().read_text(encoding="utf-8")
    _, _, body = text.partition("version: 1\n")
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    head = HEAD.format(schema=schema, name=name, file=file)
    changes = (
        (r"^site: .*$", f"site: {{id: {site_id}, name: {quoted}, timezone: {timezone}}}"),
        (r"^mode: on ", "mode: blocked "),
        (r"origin: [^,]*,", f"origin: {site_id}.example/SOP-1,"),
    )
    for pattern, replacement in changes:
        literal = replacement.replace("\\", "\\\\")
        body, count = re.subn(pattern, literal, body, count=1, flags=re.MULTILINE)
        assert count == 1, f"the bench file has {pattern}"
    return f"{head}version: 1\n{body}"
