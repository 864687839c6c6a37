"""Tests of lifecycle's pure modules."""
