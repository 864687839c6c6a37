"""The base of every service, free of any domain: bus, clusters, telemetry, the process itself."""
