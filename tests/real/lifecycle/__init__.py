"""What lifecycle has of its own beside clusters: releases of Istio, from a real server."""
