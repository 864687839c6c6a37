"""Objects for the tables: short to write, whole enough for the rules."""

from __future__ import annotations

from typing import Any

import yaml

from services.chassis.kube.objects import KubeObject


def obj(
    api_version: str,
    kind: str,
    spec: dict[str, Any] | None = None,
    *,
    name: str = "a",
    namespace: str = "shop",
    **metadata: Any,
) -> KubeObject:
    """An object; `spec` as YAML would give it."""
    made: KubeObject = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"name": name, **({"namespace": namespace} if namespace else {}), **metadata},
    }
    return made if spec is None else {**made, "spec": spec}


def networking(kind: str, spec: dict[str, Any], *, version: str = "v1", **more: Any) -> KubeObject:
    return obj(f"networking.istio.io/{version}", kind, spec, **more)


def virtual_service(*routes: dict[str, Any], **spec: Any) -> KubeObject:
    return networking("VirtualService", {"hosts": ["a"], "http": list(routes), **spec})


def destination_rule(policy: dict[str, Any], **spec: Any) -> KubeObject:
    return networking("DestinationRule", {"host": "a", "trafficPolicy": policy, **spec})


def envoy_filter(*patches: dict[str, Any], namespace: str = "shop", **spec: Any) -> KubeObject:
    """One that selects a workload, unless `spec` says otherwise."""
    selector = {"workloadSelector": {"labels": {"app": "a"}}}
    return networking(
        "EnvoyFilter",
        {**selector, "configPatches": list(patches), **spec},
        version="v1alpha3",
        namespace=namespace,
    )


def patch(
    operation: str = "MERGE",
    value: dict[str, Any] | None = None,
    *,
    apply_to: str = "HTTP_FILTER",
    match: dict[str, Any] | None = None,
) -> dict[str, Any]:
    changed: dict[str, Any] = {"operation": operation}
    if value is not None:
        changed["value"] = value
    made: dict[str, Any] = {"applyTo": apply_to, "patch": changed}
    return made if match is None else {**made, "match": match}


def deployment(
    *containers: dict[str, Any], name: str = "a", **metadata: dict[str, str]
) -> KubeObject:
    """`metadata` is that of its pods."""
    template = {"metadata": metadata, "spec": {"containers": list(containers)}}
    return obj("apps/v1", "Deployment", {"template": template}, name=name)


def istiod(*variables: str) -> KubeObject:
    made = deployment({"name": "discovery", "env": [{"name": v, "value": "0"} for v in variables]})
    made["metadata"]["labels"] = {"app": "istiod"}
    return made


def mesh_config(values: dict[str, Any] | str) -> KubeObject:
    """The ConfigMap with the mesh's settings, which are YAML in it."""
    content = values if isinstance(values, str) else yaml.safe_dump(values)
    made = obj("v1", "ConfigMap", name="istio", namespace="istio-system")
    return {**made, "data": {"mesh": content}}


def telemetry(spec: dict[str, Any]) -> KubeObject:
    return obj("telemetry.istio.io/v1", "Telemetry", spec)


def ambient_namespace() -> KubeObject:
    labels = {"istio.io/dataplane-mode": "ambient"}
    return obj("v1", "Namespace", name="shop", namespace="", labels=labels)


def definition(
    kind: str, versions: dict[str, dict[str, Any]], *, group: str = "networking.istio.io"
) -> str:
    """The text of a kind's definition: the schema of `spec` in each served version."""
    plural = f"{kind.lower()}s"
    return yaml.safe_dump(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "names": {"kind": kind, "plural": plural},
                "scope": "Namespaced",
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": place == 0,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": {"spec": {"type": "object", "properties": fields}},
                            }
                        },
                    }
                    for place, (version, fields) in enumerate(versions.items())
                ],
            },
        }
    )
