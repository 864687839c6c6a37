"""Traffic between workloads: rates, errors and response times, from Prometheus or from proxies."""
