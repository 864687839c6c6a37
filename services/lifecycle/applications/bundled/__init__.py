"""Manifests of our own, for the sample applications that no Istio distribution brings."""
