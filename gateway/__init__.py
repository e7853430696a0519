"""Gateway between a local electricity market and the soft open point that serves it."""
