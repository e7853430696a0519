"""The feeders around the simulated terminals: networks, load profiles, power flow."""
