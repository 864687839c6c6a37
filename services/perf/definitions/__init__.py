"""Tests as people write them, read into one form and cut into shards."""
