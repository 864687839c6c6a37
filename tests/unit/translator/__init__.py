"""Unit tests of the translator: pure, no bed."""
