"""Conducts runs: shards handed to workers, started together, gathered into one measurement."""
