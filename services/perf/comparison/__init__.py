"""Compares runs: whether a change of the mesh made a service slower, or chance did."""
