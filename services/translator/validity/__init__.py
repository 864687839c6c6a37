"""Objects held against what Istio's admission webhook asks beyond the definitions of their kinds.

The definitions (`translator/definitions`) know types, lists and expressions about one object; what
a route needs to do something, which settings exclude each other and which texts Envoy could not
read is known to istiod alone. These rules were found by asking `istioctl validate` of each version,
which answers with istiod's own checks; `docs/reference/validity.md` has how far both agree.
"""
