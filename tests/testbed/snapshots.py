"""Every object of a cluster, to tell whether something was left behind or changed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tests.testbed.clusters import Cluster

# What the cluster itself writes all the time.
_IGNORED_KINDS = frozenset({"Event", "Lease", "ComponentStatus", "PodMetrics", "NodeMetrics"})
_VOLATILE = ("resourceVersion", "managedFields", "generation", "uid", "creationTimestamp")


def snapshot(cluster: Cluster) -> dict[str, str]:
    """A hash by object, of everything but what the server keeps for itself and the status.

    What is being deleted is left out, a namespace with all that is in it: what an earlier test left
    to go may be there or gone. So is what the controllers put into each new namespace by and by, as
    long as nobody has touched it.
    """
    found: dict[str, str] = {}
    dying = dying_namespaces(cluster)
    resources = _served(cluster)
    paths = [f"{_root(version)}/{resource['name']}" for version, resource in resources]
    for (version, resource), listing in zip(resources, cluster.api.read_all(paths), strict=True):
        for item in listing.get("items") or []:
            metadata = item["metadata"]
            own = metadata["name"] if resource["kind"] == "Namespace" else None
            if "deletionTimestamp" in metadata or metadata.get("namespace", own) in dying:
                continue
            if _comes_by_itself(resource["kind"], item):
                continue
            key = f"{resource['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
            found[f"{version} {key}"] = _digest(item)
    return found


def dying_namespaces(cluster: Cluster) -> set[str]:
    """Those that are being deleted."""
    spaces = cluster.api.request("GET", "/api/v1/namespaces")["items"]
    return {
        space["metadata"]["name"] for space in spaces if "deletionTimestamp" in space["metadata"]
    }


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What came, went or changed, in words."""
    lines = [f"left behind: {key}" for key in sorted(after.keys() - before.keys())]
    lines += [f"missing: {key}" for key in sorted(before.keys() - after.keys())]
    lines += [
        f"changed: {key}"
        for key in sorted(before.keys() & after.keys())
        if before[key] != after[key]
    ]
    return lines


def _served(cluster: Cluster) -> list[tuple[str, dict[str, Any]]]:
    """Every kind that can be listed, once, in the first version of its group that serves it."""
    versions = [["v1"]]
    for group in cluster.api.request("GET", "/apis")["groups"]:
        others = [v["groupVersion"] for v in group["versions"]]
        preferred = group["preferredVersion"]["groupVersion"]
        versions.append([preferred, *(v for v in others if v != preferred)])
    flat = [version for group_versions in versions for version in group_versions]
    lists = cluster.api.read_all([_root(version) for version in flat])
    found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for version, listed in zip(flat, lists, strict=True):
        for resource in listed["resources"]:
            is_wanted = "/" not in resource["name"] and "list" in resource["verbs"]
            if is_wanted and resource["kind"] not in _IGNORED_KINDS:
                group = version.rpartition("/")[0]
                found.setdefault((group, resource["kind"]), (version, resource))
    return list(found.values())


def _comes_by_itself(kind: str, item: dict[str, Any]) -> bool:
    """Whether a controller made it for its namespace, and it is as the controller made it."""
    metadata = item["metadata"]
    if kind == "ServiceAccount":
        return metadata["name"] == "default" and not (
            item.keys() - {"metadata"} or metadata.keys() & {"labels", "annotations"}
        )
    return kind == "ConfigMap" and metadata["name"] == "kube-root-ca.crt"


def _root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _digest(item: dict[str, Any]) -> str:
    if item.get("endpoints") is not None:
        return "follows its pods"
    metadata = {k: v for k, v in item["metadata"].items() if k not in _VOLATILE}
    kept = {k: v for k, v in item.items() if k not in ("status", "metadata")} | {"m": metadata}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
