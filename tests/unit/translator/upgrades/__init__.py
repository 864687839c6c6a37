"""What an upgrade of Istio would break: the rules and their tables."""
