"""Meshbus on one machine: `make up`, `make doctor`, `make kubeconfig`. Tests start it so, too."""
