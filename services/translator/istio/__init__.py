"""How Istio writes objects, versions and expressions, read without surprises."""
