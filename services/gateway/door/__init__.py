"""The gateway's door: what a call brings as proof, and whom that makes it."""
