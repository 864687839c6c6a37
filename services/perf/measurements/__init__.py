"""Counts latencies, requests and failures of shards, and merges them into those of a run."""
