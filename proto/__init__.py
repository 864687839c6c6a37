"""The wire contract with Meshery's server: `meshops.proto` and the classes generated from it.

`meshops_pb2` is committed, so that running the adapter needs no compiler; `python -m
proto.generate` writes it anew. There is no generated `_grpc` module: the gateway registers generic
handlers from a table, because one handler serves the same call under several names.
"""
