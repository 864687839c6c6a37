"""Topology: watches every registered cluster and publishes the live graph of its mesh, the drift of
applied objects from their manifests, and findings about its configuration."""
