"""Which settings, workloads and Services a change of Istio touches, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator

from services.chassis.kube.objects import KubeObject
from services.translator.istio.reading import (
    at,
    containers,
    copied,
    entries,
    group_kind,
    inner,
    mapping,
    pod_path,
    text,
)
from services.translator.reports import Path
from services.translator.upgrades.behaviours import Places
from services.translator.upgrades.meshes import Mesh, MeshConfig, environment, identity

HUBS = {
    "gcr.io/istio-release/": "docker.io/istio/",
    "registry.istio.io/release/": "docker.io/istio/",
}
"""Image registries that are switched off, and what serves the same images."""

_FORMER_HUB = re.compile(r"(gcr\.io/istio-release|registry\.istio\.io)(?![\w.-])")
_EXCLUDED_PORTS = "traffic.sidecar.istio.io/excludeOutboundPorts"
_EXCLUDED_RANGES = "traffic.sidecar.istio.io/excludeOutboundIPRanges"


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


def providers(*names: str) -> Places:
    """Extension providers of these sorts in the mesh's settings, and Telemetries that use them."""

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


def variables(*names: str) -> Places:
    """Environment variables of istiod, in its Deployment."""

    def set_there(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
        labels = inner(obj, "metadata", "labels")
        if group_kind(obj) == ("apps", "Deployment") and labels.get("app") == "istiod":
            yield from (path for path, name in environment(obj) if name in names)

    return set_there


def former_hubs(obj: KubeObject, mesh: Mesh) -> Iterator[Path]:
    """Images of workloads and plugins, and settings, from registries that are switched off."""
    for path, container in containers(obj):
        if _FORMER_HUB.search(text(container.get("image"))):
            yield (*path, "image")
    for path in (("spec", "url"), ("spec", "wasm", "url"), ("spec", "hub")):
        if group_kind(obj)[0].endswith("istio.io") and _FORMER_HUB.search(
            text(at(obj, path[:-1]).get(path[-1]))
        ):
            yield path
    if group_kind(obj) == ("", "ConfigMap"):
        for key, value in mapping(obj.get("data")).items():
            if _FORMER_HUB.search(text(value)):
                yield ("data", str(key))


def with_current_hubs(obj: KubeObject) -> KubeObject:
    changed: KubeObject = copied(obj)
    for _, container in containers(changed):
        image = text(container.get("image"))
        for former, current in HUBS.items():
            if image.startswith(former):
                container["image"] = current + image.removeprefix(former)
    return changed
