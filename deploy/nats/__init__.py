"""The NATS server's configuration: its users and their rights."""
