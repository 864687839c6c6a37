"""What Istio's kinds may hold: definitions, deprecated forms, and what an upgrade changes."""
