"""Market contracts: pure integer functions, the same bytes on every node."""
