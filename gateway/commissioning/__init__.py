"""Checks and tests on devices: pure analysis beside a thin runner."""
