"""What the definitions of Istio and of the Gateway API say, beside the API server's own word."""
