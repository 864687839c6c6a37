"""Validates objects against the definitions of Istio's and the Gateway API's kinds."""
