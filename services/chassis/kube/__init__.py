"""Kubernetes on raw JSON: kubeconfigs, requests, server-side apply, watches, readiness."""
