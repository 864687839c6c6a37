"""Traffic: who talks to whom, how much and how well, from Prometheus or from the proxies."""
