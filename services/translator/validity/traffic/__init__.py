"""What traffic does: routes and where they lead, gateways, sidecars, entries, and patches."""
