"""The operations that perf offers: a performance test, and a gate before a change of the mesh."""
