"""What speaks to the outside: the gRPC server, and NATS where the chassis has nothing ready."""
