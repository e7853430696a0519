"""Invariants provable from the ledger alone."""
