"""Meshery's designs, all their generations, as objects and operations."""
