"""Rewrites deprecated and removed forms of objects as Istio has them today."""
