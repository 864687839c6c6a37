"""Components of designs as Meshery's servers send them, with what may be secret in them."""

from __future__ import annotations

from typing import Any

CANARY = "canary-5e0f7a2c-registrant"
_VERSIONS = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
}


def component(kind: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """An OAM Component, as ProcessOAM carries it."""
    annotations = {
        "design.meshmodel.io.k8s.APIVersion": _VERSIONS.get(kind, "v1"),
        "design.meshmodel.io.k8s.Kind": kind,
    }
    return {
        "kind": "Component",
        "apiVersion": "core.oam.dev/v1alpha2",
        "metadata": {
            "name": name,
            "namespace": "default",
            "annotations": annotations,
            "creationTimestamp": None,
        },
        "spec": {"type": kind, "version": "1.31.0", "model": "istio", "settings": settings},
    }


def configuration(name: str, of: str, traits: dict[str, Any]) -> dict[str, Any]:
    """An ApplicationConfiguration, in the words that Go writes."""
    listed = [{"Name": trait, "Properties": properties} for trait, properties in traits.items()]
    return {
        "kind": "ApplicationConfiguration",
        "apiVersion": "core.oam.dev/v1alpha2",
        "metadata": {"name": name},
        "spec": {"Components": [{"ComponentName": of, "Traits": listed, "Scopes": None}]},
    }


def declaration(kind: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A ComponentDefinition of v1beta1, with its model and all that comes with one."""
    return {
        "id": f"id-of-{name}",
        "schemaVersion": "components.meshery.io/v1beta1",
        "version": "v1.0.0",
        "displayName": name,
        "format": "JSON",
        "model": model(),
        "component": {"kind": kind, "version": _VERSIONS.get(kind, "v1"), "schema": "{}"},
        "metadata": {"isAnnotation": False, "published": True},
        "configuration": {"metadata": {"namespace": "default"}, **settings},
    }


def model() -> dict[str, Any]:
    """A model whose registrant brings the credentials of a cluster."""
    secret = {"user": {"client-key-data": CANARY, "token": CANARY}}
    return {
        "name": "istio-base",
        "version": "v1.0.0",
        "model": {"version": "1.31.0"},
        "registrant": {"kind": "kubernetes", "metadata": secret},
        "connection": {"metadata": secret},
    }


def design(*components: dict[str, Any], name: str = "design") -> dict[str, Any]:
    """A design file of v1beta1."""
    return {
        "schemaVersion": "designs.meshery.io/v1beta1",
        "name": name,
        "components": list(components),
        "relationships": [{"kind": "hierarchical", "model": model()}],
    }


def row(count: int, *, namespace: str) -> dict[str, Any]:
    """A Namespace and ConfigMaps, each of which depends on the one before; written backwards."""
    parts = []
    for number in range(count - 1):
        part = declaration("ConfigMap", f"c{number}", {"data": {"n": str(number)}})
        part["configuration"]["metadata"]["namespace"] = namespace
        if number:
            part["metadata"]["dependsOn"] = [f"id-of-c{number - 1}"]
        parts.append(part)
    whole = declaration("Namespace", namespace, {})
    return design(*reversed(parts), whole)
