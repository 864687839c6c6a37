"""Kubernetes on raw JSON: intake of kubeconfigs, requests, server-side apply, watches, readiness."""
