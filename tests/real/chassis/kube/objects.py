"""Small objects for the tests of the kube part."""

from __future__ import annotations

from typing import Any

import orjson

from services.chassis.kube.objects import KubeObject, Ref


def config_map(name: str, namespace: str, **data: str) -> KubeObject:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def deployment(name: str, namespace: str, *, replicas: int = 2) -> KubeObject:
    """The simulated kubelet makes its pods ready."""
    labels = {"app": name}
    container = {"name": "main", "image": "example.invalid/main"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def definition(group: str, kind: str, plural: str = "") -> KubeObject:
    """A CustomResourceDefinition of `kind` in `<group>/v1`, namespaced, with any fields."""
    plural = plural or f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": plural[:-1]},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


def custom(group: str, kind: str, name: str, namespace: str, **fields: Any) -> KubeObject:
    return {
        "apiVersion": f"{group}/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        **fields,
    }


def body(obj: KubeObject) -> bytes:
    return orjson.dumps(obj)


def ref(obj: KubeObject) -> Ref:
    return Ref.of(obj)
