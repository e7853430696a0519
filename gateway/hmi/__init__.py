"""Read-only views: web page, metrics, northbound server."""
