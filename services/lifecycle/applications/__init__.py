"""Sample applications and add-ons, from Istio's distributions and from manifests of our own."""
