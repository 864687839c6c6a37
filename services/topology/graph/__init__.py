"""The graph: nodes and edges of the mesh in Kiali's vendor JSON, kept up change by change."""
