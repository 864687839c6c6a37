"""Load generators behind one port: how each is started and how its output is read."""
