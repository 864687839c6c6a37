"""Rollouts: a new version of Istio over a fleet, in waves with a gate, a soak and a way back."""
