"""Istio's raw objects and expressions, read without surprises; what several packages stand on."""
