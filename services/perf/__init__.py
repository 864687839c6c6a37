"""Perf: load tests that scale by adding workers, read together with the mesh's telemetry."""
