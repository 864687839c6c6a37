"""The console's server, without a port."""
