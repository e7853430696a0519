"""Drivers and profiles of devices, and the last guard before the wire."""
