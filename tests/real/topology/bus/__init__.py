"""The feed and the ownership of clusters on a real NATS."""
