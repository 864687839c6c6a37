"""Drift, without a cluster."""
