"""Rewrites deprecated and removed forms of objects in the form that Istio has today."""
