"""The definitions of Istio's and the Gateway API's kinds, and objects held against them."""
