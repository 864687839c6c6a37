"""Request bodies that several tests send."""

from __future__ import annotations

import json
from typing import Any

PURGE = "apiVersion: meshbus.io/v1\nkind: LifecycleOptions\nspec: {purge: true, force: true}\n"


def options(**spec: Any) -> str:
    """A LifecycleOptions document."""
    return json.dumps({"apiVersion": "meshbus.io/v1", "kind": "LifecycleOptions", "spec": spec})


def routing(**spec: Any) -> str:
    """A RoutingOptions document."""
    return json.dumps({"apiVersion": "meshbus.io/v1", "kind": "RoutingOptions", "spec": spec})


def operator(**spec: Any) -> str:
    """An IstioOperator overlay."""
    document = {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "spec": spec,
    }
    return json.dumps(document)


def in_namespace(name: str) -> str:
    """An IstioOperator that names its namespace as an object does."""
    return json.dumps({**json.loads(operator()), "metadata": {"namespace": name}})


def both(overlay: str, chosen: str) -> str:
    return f"{overlay}\n---\n{chosen}\n"


def config_map(name: str, *, namespace: str = "", value: str = "1") -> str:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": value}}
    return json.dumps(document)


def namespace(name: str, **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def no_pods_quota(in_namespace: str) -> dict[str, Any]:
    """Keeps every new pod of a namespace from being made: an install there cannot become ready."""
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "no-pods", "namespace": in_namespace},
        "spec": {"hard": {"pods": "0"}},
    }
