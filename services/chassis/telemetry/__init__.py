"""Logs, metrics and traces; what leaves a process through them is redacted here."""
