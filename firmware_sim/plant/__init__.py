"""Physics and firmware: step(dt), no clock inside."""
