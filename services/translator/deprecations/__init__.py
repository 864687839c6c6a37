"""Deprecated and removed forms, and how Istio says the same today."""
