"""Meshes of several clusters: one root of trust, gateways between networks, remote secrets."""
