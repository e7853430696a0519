"""OPC UA client in a child process with limits, so that a hostile server costs a restart only."""
