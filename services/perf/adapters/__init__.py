"""Perf's side of NATS, of child processes and of HTTP."""
