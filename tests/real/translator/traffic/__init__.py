"""What translated objects do to requests: real istiod, real Envoy, real TLS, on loopback.

The SMI conformance suites (traffic-split, traffic-access, traffic-specs) are told here as tests of
our own, and more than they ask.
"""
