"""Decisions: synchronous functions of values; no clock, no I/O, no logging."""
