"""SMI objects and what they become."""
