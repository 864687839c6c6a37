"""Versions of Istio in a cluster, and in several: control planes, and proxies under them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Pod, Proxy
from services.topology.cluster.state import State
from services.topology.mesh.images import is_supported, proxy_version


def versions(state: State, planes: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Of one cluster. A proxy that no control plane knows counts by its image, under none."""
    counted: Counter[tuple[str, str]] = Counter()
    for pod in state.all(kinds.POD):
        found = _of(state, pod)
        if found is not None:
            counted[found] += 1
    return {
        "controlPlanes": [dict(plane) for plane in planes],
        "proxies": [
            {
                "version": version,
                "controlPlane": plane,
                "count": count,
                "supported": is_supported(version, plane),
            }
            for (version, plane), count in sorted(counted.items())
        ],
    }


def _of(state: State, pod: Pod) -> tuple[str, str] | None:
    if pod.has_ended:
        return None
    proxy: Proxy | None = state.get(kinds.PROXY, pod.namespace, pod.name)
    version = (proxy.version if proxy is not None else "") or proxy_version(pod)
    if not version:
        return None
    return version, proxy.istiod_version if proxy is not None else ""


def summed(clusters: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Of several: in how many clusters each control plane's version is, how many proxies have
    each version, and how many do not go with their control plane."""
    planes: Counter[str] = Counter()
    proxies: Counter[str] = Counter()
    unsupported = 0
    for cluster in clusters:
        planes.update({plane["version"] for plane in cluster["controlPlanes"]})
        for proxy in cluster["proxies"]:
            proxies[proxy["version"]] += proxy["count"]
            unsupported += 0 if proxy["supported"] else proxy["count"]
    return {
        "controlPlanes": dict(sorted(planes.items())),
        "proxies": dict(sorted(proxies.items())),
        "unsupported": unsupported,
    }
