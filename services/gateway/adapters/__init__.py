"""The gRPC server, and the uses of NATS that only the gateway has."""
