"""Contracts in protobuf and the classes generated from them.

`meshops.proto` is the wire contract with Meshery's server; `smp.proto` is the form of load tests
and their results (Service Mesh Performance). The `_pb2` modules are committed, so that running the
adapter needs no compiler; `python -m proto.generate` writes them anew. There is no generated
`_grpc` module: the gateway registers generic handlers from a table, because one handler serves the
same call under several names.
"""
