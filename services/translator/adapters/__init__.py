"""What speaks to the outside: NATS, and the folders of Istio distributions."""
