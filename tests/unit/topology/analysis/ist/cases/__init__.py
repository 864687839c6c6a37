"""The cases, a table per subject."""
