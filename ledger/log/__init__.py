"""Append-only signed log: bytes and hashes; knows nothing of power."""
