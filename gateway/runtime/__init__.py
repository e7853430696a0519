"""Scan loop, dispatch, telemetry and the clock."""
