"""Programs and services outside the process: istioctl, and the translator over the bus."""
