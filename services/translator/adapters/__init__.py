"""The only modules that speak to the outside: NATS, and the folders of Istio distributions."""
