"""Our verdict beside that of the real istioctl."""
