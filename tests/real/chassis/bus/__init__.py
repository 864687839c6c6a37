"""The bus part of the chassis against a real nats-server."""
