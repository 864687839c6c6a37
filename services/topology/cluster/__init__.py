"""The objects of one cluster as the API server has them, and the indices that rules and the graph
look them up by."""
