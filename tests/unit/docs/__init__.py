"""Tests of what the documentation is generated from, and of its links."""
