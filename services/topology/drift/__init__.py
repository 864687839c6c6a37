"""Drift: what was applied by Meshbus and is not like that any more."""
