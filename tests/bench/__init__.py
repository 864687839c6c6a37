"""Benchmarks: Meshbus beside istioctl and kubectl, in one run on one bed, as ratios."""
