"""Reads raw objects, versions and expressions by the rules of Istio and Kubernetes."""
