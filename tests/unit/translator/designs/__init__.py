"""Tests of reading and expanding designs."""
