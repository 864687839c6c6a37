"""Objects that Istio takes and refuses, as `istioctl validate` says."""
