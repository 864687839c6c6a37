"""istioctl's analyzer codes (`IST…`) as rules that are kept up to date.

The reference is what the bed's istioctl does, quirks included, so that nobody has to ask which of
the two is right; tests/real/topology/test_istioctl.py compares them and lists the few differences.
"""
