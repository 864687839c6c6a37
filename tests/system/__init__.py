"""Tests of the adapter as its users meet it: over the wire, with real programs around it."""
