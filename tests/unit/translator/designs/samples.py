"""One small shop in every generation of Meshery's designs, written for these tests."""

from __future__ import annotations

from typing import Any

import orjson

CANARIES = ("canary-client-key", "canary-token", "canary-kubeconfig")
"""Secrets that Meshery sends along with a model; nothing of ours may repeat them."""

ROUTES: dict[str, Any] = {
    "hosts": ["reviews"],
    "http": [{"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}],
}
NOTED = {
    "design.meshmodel.io.k8s.APIVersion": "networking.istio.io/v1alpha3",
    "design.meshmodel.io.k8s.Kind": "/VirtualService",
    "design.meshmodel.io.model.name": "istio",
    "design.meshmodel.io.model.version": "1.16.0",
    "owner": "team-a",
}
VIRTUAL_SERVICE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "VirtualService",
    "metadata": {
        "name": "reviews",
        "namespace": "shop",
        "labels": {"tier": "front"},
        "annotations": {"owner": "team-a"},
    },
    "spec": ROUTES,
}
"""What each generation's form of the same component has to become."""


def registrant() -> dict[str, Any]:
    """As a model carries it: the connection that registered it, credentials and all."""
    return {
        "kind": "kubernetes",
        "credential": {"client-key-data": CANARIES[0]},
        "metadata": {"token": CANARIES[1], "config": CANARIES[2]},
    }


def model(name: str = "istio-base", version: str = "1.16.0") -> dict[str, Any]:
    return {
        "name": name,
        "version": "v1.0.0",
        "displayName": "Istio",
        "model": {"version": version},
        "registrant": registrant(),
        "connection_id": CANARIES[1],
        "metadata": {"svgColor": "<svg/>"},
    }


def definition(
    name: str = "reviews",
    kind: str = "VirtualService",
    version: str = "networking.istio.io/v1alpha3",
    *,
    generation: str = "v1beta1",
    **fields: Any,
) -> dict[str, Any]:
    """A ComponentDefinition of v1beta1 to v1beta3."""
    configuration = {
        "metadata": {
            "namespace": "shop",
            "labels": {"tier": "front"},
            "annotations": {"owner": "team-a"},
        },
        "spec": ROUTES,
        "annotations": {"design.meshmodel.io.name": "shop", "design.meshmodel.io.id": "1"},
    }
    return {
        "id": f"id-{name}",
        "schemaVersion": f"components.meshery.io/{generation}",
        "version": "v1.0.0",
        "displayName": name,
        "description": "",
        "format": "JSON",
        "model": model(),
        "styles": {"position": {"x": 1.5, "y": 2}},
        "capabilities": [],
        "status": "enabled",
        "metadata": {"isAnnotation": False, "isNamespaced": True, "dependsOn": []},
        "configuration": configuration,
        "component": {"kind": kind, "version": version, "schema": '{"type":"object"}'},
    } | fields


def definitions(*components: Any, generation: str = "v1beta1") -> dict[str, Any]:
    """A design of v1beta1 to v1beta3."""
    return {
        "id": "1",
        "name": "shop",
        "schemaVersion": f"designs.meshery.io/{generation}",
        "version": "0.0.1",
        "components": list(components),
        "relationships": [],
    }


def service(**fields: Any) -> dict[str, Any]:
    """A service of a v1alpha2 design."""
    return {
        "name": "reviews",
        "type": "VirtualService.Istio",
        "apiVersion": "networking.istio.io/v1alpha3",
        "model": "istio",
        "version": "1.16.0",
        "namespace": "shop",
        "labels": {"tier": "front", "resource.pattern.meshery.io/id": "7"},
        "annotations": {"owner": "team-a", "pattern.meshery.io.ui": "x"},
        "dependsOn": [],
        "settings": ROUTES,
        "traits": {
            "meshmap": {
                "id": "id-reviews",
                "meshmodel-data": model(),
                "meshmodel-metadata": {"isAnnotation": False},
                "position": {"posX": 1, "posY": 2},
            }
        },
    } | fields


def services(**components: Any) -> dict[str, Any]:
    """A v1alpha2 design."""
    return {"name": "shop", "services": components}


def plain_services(**components: dict[str, Any]) -> dict[str, Any]:
    """A v1alpha2 design of ConfigMaps, or of what the fields say."""
    return services(
        **{name: {"type": "ConfigMap", "settings": {}} | own for name, own in components.items()}
    )


def oam(*, annotations: dict[str, str] | None = None, **spec: Any) -> str:
    """An OAM Component as Meshery's Go writes it."""
    return text(
        {
            "kind": "Component",
            "apiVersion": "core.oam.dev/v1alpha2",
            "metadata": {
                "name": "reviews",
                "namespace": "shop",
                "creationTimestamp": None,
                "labels": {"tier": "front", "resource.pattern.meshery.io/id": "7"},
                "annotations": annotations,
            },
            "spec": {
                "type": "VirtualService",
                "version": "1.16.0",
                "apiVersion": "",
                "model": "istio",
                "settings": ROUTES,
                "parameters": None,
            }
            | spec,
        }
    )


def configuration(**traits: Any) -> str:
    """An ApplicationConfiguration for `reviews`, with Go's names of fields."""
    return text(
        {
            "TypeMeta": {},
            "Kind": "ApplicationConfiguration",
            "metadata": {"name": "shop", "creationTimestamp": None},
            "Spec": {
                "Components": [
                    {
                        "ComponentName": "reviews",
                        "Traits": [
                            {"Name": name, "Properties": own} for name, own in traits.items()
                        ],
                        "Scopes": None,
                    }
                ]
            },
        }
    )


ZERO_CONFIGURATION = (
    '{"TypeMeta":{},"metadata":{"creationTimestamp":null},"Spec":{"Components":null}}'
)


def text(value: Any) -> str:
    return orjson.dumps(value).decode()
