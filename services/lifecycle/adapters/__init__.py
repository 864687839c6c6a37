"""What speaks to the outside: istioctl of the distributions, API servers."""
