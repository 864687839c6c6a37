"""Meshbus: one package per service, and the chassis that all of them stand on."""
