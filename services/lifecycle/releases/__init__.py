"""Releases of Istio: which are here, and how another one comes here and to the translator."""
