"""The gateway's only door to the ledger."""
