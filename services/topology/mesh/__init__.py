"""How Istio reads a cluster's objects: the mesh's settings, who is a member, mutual TLS and
authorization, and the configuration that a request meets on its way."""
