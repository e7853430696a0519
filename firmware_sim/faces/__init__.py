"""How the simulated devices look on the wire."""
