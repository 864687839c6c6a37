"""The outside: API servers, the bus, proxies, browsers."""
