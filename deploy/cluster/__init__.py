"""What the chart's Jobs do inside a cluster: make the keys, register the cluster itself."""
