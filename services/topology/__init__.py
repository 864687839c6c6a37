"""Topology: watches every registered cluster and tells what the mesh looks like, what moved away
from what was applied, and what is wrong with it."""
