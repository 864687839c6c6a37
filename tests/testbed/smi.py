"""SMI objects as the tests write them."""

from __future__ import annotations

from typing import Any

from services.chassis.kube.objects import KubeObject


def split(
    namespace: str,
    weights: dict[str, int],
    *,
    service: str = "app-svc",
    groups: tuple[str, ...] = (),
    gateways: tuple[str, ...] = (),
) -> KubeObject:
    """A TrafficSplit of `service`; `groups` are HTTPRouteGroups whose requests are split."""
    spec: dict[str, Any] = {
        "service": service,
        "backends": [{"service": name, "weight": weight} for name, weight in weights.items()],
    }
    if groups:
        kind = {"apiGroup": "specs.smi-spec.io", "kind": "HTTPRouteGroup"}
        spec["matches"] = [{**kind, "name": name} for name in groups]
    obj = _object("split.smi-spec.io/v1alpha4", "TrafficSplit", namespace, "canary", spec)
    if gateways:
        obj["metadata"]["annotations"] = {"meshbus.io/gateways": ",".join(gateways)}
    return obj


def route_group(namespace: str, name: str, *matches: dict[str, Any]) -> KubeObject:
    """An HTTPRouteGroup; each match has a name, and pathRegex, methods or headers."""
    spec = {"matches": list(matches)}
    return _object("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", namespace, name, spec)


def tcp_route(namespace: str, name: str, *ports: int) -> KubeObject:
    """A TCPRoute; no ports means all."""
    spec = {"matches": {"ports": list(ports)}}
    return _object("specs.smi-spec.io/v1alpha4", "TCPRoute", namespace, name, spec)


def target(
    namespace: str,
    *rules: KubeObject,
    source: tuple[str, str],
    destination: str = "service-b",
    matches: tuple[str, ...] = (),
) -> KubeObject:
    """A TrafficTarget: `source` (namespace, account) may do what the rules' objects say.

    `matches` names some of the matches of each HTTPRouteGroup; none means all.
    """
    named = [_rule(rule, matches) for rule in rules]
    spec = {
        "destination": _account(namespace, destination),
        "sources": [_account(*source)],
        "rules": named,
    }
    return _object("access.smi-spec.io/v1alpha3", "TrafficTarget", namespace, "allow", spec)


def _rule(rule: KubeObject, matches: tuple[str, ...]) -> dict[str, Any]:
    named: dict[str, Any] = {"kind": rule["kind"], "name": rule["metadata"]["name"]}
    if matches and rule["kind"] == "HTTPRouteGroup":
        named["matches"] = list(matches)
    return named


def _account(namespace: str, name: str) -> dict[str, str]:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def _object(
    api_version: str, kind: str, namespace: str, name: str, spec: dict[str, Any]
) -> KubeObject:
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
