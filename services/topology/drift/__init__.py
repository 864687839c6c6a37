"""Drift: objects that Meshbus applied and that differ from what it applied by now."""
