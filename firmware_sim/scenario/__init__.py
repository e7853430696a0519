"""Scenarios: initial state, timeline, expectations; run deterministically from the seed."""
