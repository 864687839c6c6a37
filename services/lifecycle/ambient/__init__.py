"""Ambient: what is enrolled, the waypoints, and the way from sidecars."""
