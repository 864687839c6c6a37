"""What people run to have Meshbus: the launcher, the doctor, kubeconfigs with least rights, and the
chart by the real helm on a real API server."""
