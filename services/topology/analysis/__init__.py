"""Analysis: what is wrong with a mesh's configuration, found as it changes."""
