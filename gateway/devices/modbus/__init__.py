"""Modbus client of our own: strict framing without I/O, and one line over it."""
