"""Istio itself: installed, upgraded and removed by revision; namespaces labelled for injection."""
