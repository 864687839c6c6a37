"""The NATS server's configuration: who may connect, and what each of them may do."""
