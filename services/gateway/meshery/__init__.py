"""Meshery's own server: what its registry knows of us."""
