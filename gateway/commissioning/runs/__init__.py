"""Runners: thin, they poll and ask; what it means is decided by the pure modules beside them."""
