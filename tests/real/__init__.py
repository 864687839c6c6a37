"""Tests of one service each, with the real programs that it speaks to."""
