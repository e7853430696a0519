"""Simulated soft open point, meters and feeders, reached only over the wire."""
