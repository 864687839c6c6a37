"""Bodies of `istio-multicluster`, and what the clusters of such a mesh have."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.testbed.clusters import Cluster

MESH = "shop"


def multicluster(*clusters: dict[str, Any], **spec: Any) -> str:
    """A MultiClusterOptions document."""
    document = {
        "apiVersion": "meshbus.io/v1",
        "kind": "MultiClusterOptions",
        "spec": {"meshID": MESH, "clusters": list(clusters), **spec},
    }
    return json.dumps(document)


def secrets_of(cluster: Cluster, namespace: str = "istio-system") -> dict[str, dict[str, Any]]:
    """The Secrets of the mesh's namespace, by name."""
    found = cluster.api.request("GET", f"/api/v1/namespaces/{namespace}/secrets")["items"]
    return {secret["metadata"]["name"]: secret for secret in found}


def texts_of(secret: dict[str, Any]) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in (secret.get("data") or {}).items()}
