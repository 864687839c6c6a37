"""One cluster: how it is reached, which Istio is installed in it, and which kinds it serves."""
