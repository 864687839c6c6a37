"""The chassis with a real NATS, a real Kubernetes and a real Prometheus."""
