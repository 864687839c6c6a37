"""What was counted: latencies, requests and failures of shards, merged into those of a run."""
