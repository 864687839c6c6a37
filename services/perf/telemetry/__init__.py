"""What the mesh's own metrics say about a run: where its latency sits, and what was full."""
