"""What a profile's keys must mean together: units, overlaps, references, readbacks."""

from __future__ import annotations

from gateway.config.yaml_reader import Document, Node


def check(document: Document, root: Node) -> None:
    """Note every problem of meaning; parts that have no shape are left out."""
