"""Reads site files strictly; every mistake with file, line, column and mend."""
