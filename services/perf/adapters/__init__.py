"""What perf reaches: the bus, the generators' processes, Prometheus."""
