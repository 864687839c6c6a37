"""Hosts as Istio's configuration names them: short, full, with wildcards, with namespaces.

Rules of https://istio.io/latest/docs/reference/config/networking/virtual-service/ (Destination):
a name without dots belongs to the namespace of the object that uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from services.topology.cluster.forms import entries, texts

DOMAIN = "cluster.local"
MESH = "mesh"
"""The gateway that stands for all sidecars."""


def expanded(host: str, namespace: str) -> str:
    """The full name that Istio makes of a host as seen from `namespace`.

    A name without dots gets the namespace and the cluster's domain, and no other name does:
    `reviews.prod` and `reviews.prod.svc` are understood by Kubernetes' own resolver alone. Istio
    takes them for names outside the cluster.
    """
    if not host or "." in host or host.startswith("*"):
        return host
    return f"{host}.{namespace}.svc.{DOMAIN}"


def overlap(one: str, other: str) -> bool:
    """Whether a host exists that both mean; either may begin with a wildcard."""
    if one.startswith("*") and other.startswith("*"):
        return one.endswith(other[1:]) or other.endswith(one[1:])
    if one.startswith("*"):
        return other.endswith(one[1:])
    return one.endswith(other[1:]) if other.startswith("*") else one == other


EVERYWHERE = "*"


def scopes(export_to: Iterable[str], namespace: str) -> frozenset[str]:
    """The namespaces that an object of `namespace` is exported to; `EVERYWHERE` alone for all."""
    names = {namespace if name == "." else name for name in export_to}
    if not names or EVERYWHERE in names:
        return frozenset((EVERYWHERE,))
    return frozenset(names)


def service_of(host: str) -> tuple[str, str] | None:
    """Namespace and name of the Service behind a full name; None for a host of another form."""
    parts = host.split(".")
    if len(parts) >= 4 and parts[2] == "svc" and parts[0] != "*":
        return parts[1], parts[0]
    return None


def covers(pattern: str, host: str) -> bool:
    """Whether `pattern` (`*`, `*.example.com`, or a name) means all of `host`, which may itself
    begin with a wildcard."""
    if pattern == host or pattern == "*":
        return True
    return pattern.startswith("*.") and host.endswith(pattern[1:])


def is_of_cluster(host: str) -> bool:
    """Whether a name without wildcard has a form that only names of Services have: no dot, or the
    `.svc` of Kubernetes' own domain."""
    return "." not in host or "svc" in host.split(".")[2:3]


def patterns(host: str) -> list[str]:
    """A host and the wildcards that cover it, the narrowest first."""
    parts = host.removeprefix("*.").split(".")
    return [host, *("*." + ".".join(parts[at:]) for at in range(1, len(parts))), "*"]


def is_gateway_host(reference: str) -> bool:
    """Whether a Gateway is named by its old form, a host such as `gw.prod.svc.cluster.local`."""
    return "/" not in reference and "." in reference


def gateway_place(reference: str, namespace: str) -> tuple[str, str]:
    """Namespace and name of a Gateway as a VirtualService of `namespace` names it: `name`,
    `namespace/name`, or a host, which istiod reads as `name.namespace` and whatever follows."""
    if is_gateway_host(reference):
        name, space, *_ = reference.split(".")
        return space, name
    space, slash, name = reference.partition("/")
    return (space, name) if slash else (namespace, reference)


def gateways_of(spec: Mapping[str, Any]) -> list[str]:
    """A VirtualService's gateways; none means the mesh."""
    return [str(name) for name in entries(spec.get("gateways")) or (MESH,)]


def full_names(spec: Mapping[str, Any], namespace: str) -> list[str]:
    """The full names of the `hosts` of a VirtualService or ServiceEntry."""
    return [expanded(name, namespace) for name in texts(spec, "hosts")]


def seen_from(spec: Mapping[str, Any], namespace: str) -> frozenset[str]:
    """The namespaces that see an object of `namespace`, by its `exportTo`."""
    return scopes(texts(spec, "exportTo"), namespace)


def routes_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """A VirtualService's routes: path (`spec.http[0]`), protocol (`http`, `tls`, `tcp`), route."""
    for protocol in ("http", "tls", "tcp"):
        for index, route in enumerate(entries(spec.get(protocol))):
            if isinstance(route, dict):
                yield f"spec.{protocol}[{index}]", protocol, route


def destinations_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], int | None]]:
    """A VirtualService's destinations, mirrors included: path of the destination, the destination
    (`host`, `subset`, `port`), and its weight (None where there is none)."""
    for path, _, route in routes_of(spec):
        for index, split in enumerate(entries(route.get("route"))):
            if isinstance(split, dict) and isinstance(split.get("destination"), dict):
                yield (
                    f"{path}.route[{index}].destination",
                    split["destination"],
                    split.get("weight"),
                )
        if isinstance(route.get("mirror"), dict):
            yield f"{path}.mirror", route["mirror"], None
        for index, mirror in enumerate(entries(route.get("mirrors"))):
            if isinstance(mirror, dict) and isinstance(mirror.get("destination"), dict):
                yield f"{path}.mirrors[{index}].destination", mirror["destination"], None
