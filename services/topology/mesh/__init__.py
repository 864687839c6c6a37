"""How Istio reads a cluster's objects: the mesh's settings, membership, mutual TLS and
authorization, and the configuration that a request meets on its way."""
