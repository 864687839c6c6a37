"""The compliance report: mutual TLS, authorization and certificates of every workload, as data,
HTML and CSV."""
