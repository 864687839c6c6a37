"""Perf: load tests that scale by adding workers, and what the mesh's telemetry says about them."""
