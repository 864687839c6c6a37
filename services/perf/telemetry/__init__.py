"""Judges by the mesh's own metrics where a run's latency sits and what was at its limit."""
