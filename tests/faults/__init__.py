"""Faults with real processes: kills, restarts and pauses in the middle of the main job."""
