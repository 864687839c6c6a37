"""The conditions and rewrites that `behaviours.yaml` names: which objects a change of Istio
touches, at which places, and the form in which an object behaves as it did before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from services.chassis.kube.objects import KubeObject
from services.translator.deprecations.fields import traffic_policies
from services.translator.istio.objects import (
    at,
    containers,
    entries,
    group_kind,
    inner,
    mapping,
    namespace_of,
    placed_texts,
    pod_path,
    text,
    walked,
)
from services.translator.reports import Path
from services.translator.upgrades.meshes import (
    Mesh,
    MeshConfig,
    environment,
    gateways_of,
    identity,
)

Condition: TypeAlias = Callable[[KubeObject, Mesh], Iterable[Path]]
"""Finds where a change touches an object; yields no place in an object that it spares."""
Rewrite: TypeAlias = Callable[[KubeObject, Path], None]
"""Changes an object, at a place that a condition found, so that it behaves as it did before."""

GATEWAY_API = "gateway.networking.k8s.io"
FORMER_GATEWAY_LABEL = "istio.io/gateway-name"
GATEWAY_LABEL = "gateway.networking.k8s.io/gateway-name"

_NATIVE_SIDECARS_SINCE = 33
"""The Kubernetes minor from which on istiod turns native sidecars on by itself."""

_REGISTRIES = {
    "gcr.io/istio-release/": "docker.io/istio/",
    "registry.istio.io/release/": "docker.io/istio/",
}

_RETIRED_REGISTRY = re.compile(r"(gcr\.io/istio-release|registry\.istio\.io)(?![\w.-])")
_EXCLUDED_PORTS = "traffic.sidecar.istio.io/excludeOutboundPorts"
_EXCLUDED_RANGES = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
_FORMER_ATTRIBUTES = re.compile(
    r"wasm\.(down|up)stream_peer|(?<![\w.\"'])(istio_\w+|node|(down|up)stream_peer)(?=[.\[\s=!)]|\Z)"
)


# ---- The mesh as a whole -------------------------------------------------------------------------


def any_mesh(mesh: Mesh) -> bool:
    return True


def is_ambient(mesh: Mesh) -> bool:
    return mesh.is_ambient


def has_native_sidecars(mesh: Mesh) -> bool:
    """Whether the nodes support native sidecars, or their version is not known."""
    return mesh.kubernetes_minor == 0 or mesh.kubernetes_minor >= _NATIVE_SIDECARS_SINCE


# ---- Traffic and configuration -------------------------------------------------------------------


def always(obj: KubeObject, mesh: Mesh) -> Iterable[Path]:
    return ((),)


def unverified_tls(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """TLS of a DestinationRule without certificates to verify the server."""
    for path, tls in _tls_settings(obj):
        given = ("caCertificates", "credentialName")
        if tls.get("insecureSkipVerify") is None and not any(tls.get(name) for name in given):
            yield (*path, "tls")


def without_verification(obj: KubeObject, path: Path) -> None:
    at(obj, path)["insecureSkipVerify"] = True


def tls_without_sni(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """TLS of a DestinationRule without sni."""
    for path, tls in _tls_settings(obj):
        if not tls.get("sni"):
            yield (*path, "tls")


def _tls_settings(obj: KubeObject) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path, policy in traffic_policies(obj):
        tls = mapping(policy.get("tls"))
        if tls.get("mode") in ("SIMPLE", "MUTUAL"):
            yield path, tls


def overlapping_wildcards(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Wildcard hosts of a VirtualService that also cover another one's more specific host."""
    for index, host in placed_texts(inner(obj, "spec").get("hosts")):
        if not host.startswith("*"):
            continue
        for gateway in gateways_of(obj):
            others = mesh.suffixes.get((gateway, host.removeprefix("*")), frozenset())
            if others - {identity(obj)}:
                yield ("spec", "hosts", index)
                break


def former_gateway_labels(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Selectors of Istio's objects by the former label of generated gateways."""
    for path in (
        ("spec", "selector"),
        ("spec", "selector", "matchLabels"),
        ("spec", "workloadSelector", "labels"),
    ):
        if group_kind(obj)[0].endswith("istio.io") and FORMER_GATEWAY_LABEL in at(obj, path):
            yield (*path, FORMER_GATEWAY_LABEL)


def with_gateway_label(obj: KubeObject, path: Path) -> None:
    selector = at(obj, path[:-1])
    selector.setdefault(GATEWAY_LABEL, selector.pop(FORMER_GATEWAY_LABEL))


def relative_filters(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Patches of an EnvoyFilter that stand before or after another filter."""
    for index, patch in entries(inner(obj, "spec").get("configPatches")):
        is_filter = patch.get("applyTo") in ("HTTP_FILTER", "NETWORK_FILTER")
        operation = inner(patch, "patch").get("operation")
        if is_filter and operation in ("INSERT_BEFORE", "INSERT_AFTER"):
            yield ("spec", "configPatches", index)


def external_names(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    if inner(obj, "spec").get("type") == "ExternalName":
        yield ("spec", "type")


def translated_ports(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Target ports of a ServiceEntry without resolution that differ from the port."""
    spec = inner(obj, "spec")
    if spec.get("resolution", "NONE") == "NONE":
        for index, port in entries(spec.get("ports")):
            if port.get("targetPort") not in (None, port.get("number")):
                yield ("spec", "ports", index, "targetPort")


def without_target_port(obj: KubeObject, path: Path) -> None:
    del at(obj, path[:-1])["targetPort"]


def waypoints(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    if inner(obj, "spec").get("gatewayClassName") == "istio-waypoint":
        yield ("spec", "gatewayClassName")


def former_attributes(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Expressions of a Telemetry with attributes of the former Wasm extensions."""
    for path, node in walked(obj.get("spec"), ("spec",)):
        for key in ("expression", "value"):
            if _FORMER_ATTRIBUTES.search(text(node.get(key))) and "tracing" not in path:
                yield (*path, key)


def mirrors(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    for index, route in entries(inner(obj, "spec").get("http")):
        yield from (("spec", "http", index, key) for key in ("mirror", "mirrors") if key in route)


def unresolved_in_ambient(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    if mesh.is_ambient and inner(obj, "spec").get("resolution", "NONE") == "NONE":
        yield ("spec", "resolution")


def connection_limits(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    for path, policy in traffic_policies(obj):
        if "connectionPool" in policy:
            yield (*path, "connectionPool")


def shared_hosts(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Hosts of a ServiceEntry that another namespace declares too."""
    for index, host in placed_texts(inner(obj, "spec").get("hosts")):
        if mesh.owners.get(host, frozenset()) - {namespace_of(obj)}:
            yield ("spec", "hosts", index)


def gateways_selecting_elsewhere(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Istio Gateways that select the pods of a generated gateway in another namespace."""
    selector = inner(obj, "spec", "selector")
    name = selector.get(GATEWAY_LABEL, selector.get(FORMER_GATEWAY_LABEL))
    own = namespace_of(obj)
    homes = {
        namespace_of(gateway)
        for gateway in mesh.all(GATEWAY_API, "Gateway")
        if inner(gateway, "metadata").get("name") == name
        and not inner(gateway, "spec").get("addresses")
    }
    if name and homes and own not in homes:
        yield ("spec", "selector")


def outlier_detection_without_minimum(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Outlier detection without minHealthPercent."""
    for path, policy in traffic_policies(obj):
        detection = policy.get("outlierDetection")
        if isinstance(detection, dict) and not detection.get("minHealthPercent"):
            yield (*path, "outlierDetection")


def inherited_tls(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Subsets with a policy of their own without the TLS settings of the whole rule."""
    spec = inner(obj, "spec")
    if "tls" in inner(spec, "trafficPolicy"):
        for index, subset in entries(spec.get("subsets")):
            policy = mapping(subset.get("trafficPolicy"))
            if policy and "tls" not in policy:
                yield ("spec", "subsets", index, "trafficPolicy")


def registered_entries(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """WorkloadEntries that registered themselves before they were labelled for HBONE."""
    metadata = inner(obj, "metadata")
    is_registered = "istio.io/autoRegistrationGroup" in mapping(metadata.get("annotations"))
    label = "networking.istio.io/tunnel"
    if mesh.is_ambient and is_registered and label not in mapping(metadata.get("labels")):
        yield ("metadata", "labels")


# ---- Settings, workloads and Services ------------------------------------------------------------


def default_tracing(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """The Service that Istio sent spans to by default, unless the mesh names a tracer."""
    is_default = identity(obj) == f"{mesh.root_namespace}/zipkin"
    named = any(
        mapping(config.values.get("defaultConfig")).get("tracing") for config in mesh.configs
    )
    if is_default and not named:
        yield ("metadata", "name")


def discovery_selectors(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    config = MeshConfig.of(obj)
    if config and config.values.get("discoverySelectors"):
        yield ("data", "mesh", "discoverySelectors")


def excluded_dns(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Pods whose traffic to a DNS server may now bypass the proxy."""
    pod = pod_path(obj)
    if pod is None:
        return
    path: Path = (*pod, "metadata", "annotations")
    annotations = at(obj, path)
    ports = {port.strip() for port in text(annotations.get(_EXCLUDED_PORTS)).split(",")}
    if "53" in ports:
        yield (*path, _EXCLUDED_PORTS)
    if text(annotations.get(_EXCLUDED_RANGES)).strip():
        yield (*path, _EXCLUDED_RANGES)


def providers(*names: str) -> Condition:
    """Extension providers of these types in the mesh's settings, and Telemetries that use them."""

    def used(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
        config = MeshConfig.of(obj)
        if config is not None:
            for name in names:
                yield from (path for path, _ in config.providers(name))
                if name in inner(dict(config.values), "defaultConfig", "tracing"):
                    yield ("data", "mesh", "defaultConfig", "tracing", name)
            return
        if group_kind(obj) != ("telemetry.istio.io", "Telemetry"):
            return
        known = {
            provider
            for config in mesh.configs
            for name in names
            for _, provider in config.providers(name)
        }
        for index, tracing in entries(inner(obj, "spec").get("tracing")):
            for place, provider in entries(tracing.get("providers")):
                if text(provider.get("name")) in known:
                    yield ("spec", "tracing", index, "providers", place, "name")

    return used


def variables(*names: str) -> Condition:
    """Environment variables of istiod, in its Deployment."""

    def set_there(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
        labels = inner(obj, "metadata", "labels")
        if group_kind(obj) == ("apps", "Deployment") and labels.get("app") == "istiod":
            yield from (path for path, name in environment(obj) if name in names)

    return set_there


def retired_registries(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Images of workloads and plugins, and settings, that name registries about to shut down."""
    for path, container in containers(obj):
        if _RETIRED_REGISTRY.search(text(container.get("image"))):
            yield (*path, "image")
    for path in (("spec", "url"), ("spec", "wasm", "url"), ("spec", "hub")):
        if group_kind(obj)[0].endswith("istio.io") and _RETIRED_REGISTRY.search(
            text(at(obj, path[:-1]).get(path[-1]))
        ):
            yield path
    if group_kind(obj) == ("", "ConfigMap"):
        for key, value in mapping(obj.get("data")).items():
            if _RETIRED_REGISTRY.search(text(value)):
                yield ("data", str(key))


def with_current_registry(obj: KubeObject, path: Path) -> None:
    """Renames the image of a container; other places need a decision."""
    owner = at(obj, path[:-1])
    if path[-1] == "image":
        for former, current in _REGISTRIES.items():
            if owner["image"].startswith(former):
                owner["image"] = current + owner["image"].removeprefix(former)
