"""What going from one version of Istio to another changes, object by object."""
