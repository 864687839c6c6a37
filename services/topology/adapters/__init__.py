"""What speaks to the outside: API servers, the bus, Prometheus, browsers."""
