"""The kube part of the chassis against a real control plane."""
