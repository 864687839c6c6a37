"""The documentation; its reference pages are generated from the code."""
