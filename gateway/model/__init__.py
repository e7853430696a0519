"""Values every part speaks of; integers in base units."""
