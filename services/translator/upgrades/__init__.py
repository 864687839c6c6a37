"""Reports, object by object, the changes that an upgrade of Istio brings."""
