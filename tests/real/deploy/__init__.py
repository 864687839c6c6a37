"""What people run to have Meshbus: the launcher, the doctor, kubeconfigs with least rights."""
