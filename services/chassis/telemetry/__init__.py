"""Logs, metrics and traces, and the redaction of all text that leaves a process."""
