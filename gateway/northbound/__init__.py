"""The site's state for other programs, read only: an OPC UA server, MQTT values, Sparkplug B."""
