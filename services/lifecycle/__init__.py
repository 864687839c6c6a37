"""Lifecycle: the only service that writes to clusters. Installs, upgrades, applies, removes."""
