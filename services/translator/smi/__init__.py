"""The Service Mesh Interface, all its versions, in Istio's and in the Gateway API's words."""
