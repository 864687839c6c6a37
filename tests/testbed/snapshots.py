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
    """A hash by object, of everything but what the server keeps for itself and the status."""
    found: dict[str, str] = {}
    for group_version, resources in _served(cluster):
        for resource in resources:
            if "list" not in resource["verbs"] or resource["kind"] in _IGNORED_KINDS:
                continue
            root = f"/api/{group_version}" if "/" not in group_version else f"/apis/{group_version}"
            listing = cluster.api.request("GET", f"{root}/{resource['name']}")
            for item in listing.get("items") or []:
                metadata = item["metadata"]
                key = f"{resource['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
                found[f"{group_version} {key}"] = _digest(item)
    return found


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


def _served(cluster: Cluster) -> list[tuple[str, list[dict[str, Any]]]]:
    """Preferred version of each group, with its resources (no subresources)."""
    versions = ["v1"]
    groups = cluster.api.request("GET", "/apis")["groups"]
    versions += [group["preferredVersion"]["groupVersion"] for group in groups]
    served = []
    for version in versions:
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        resources = cluster.api.request("GET", root)["resources"]
        served.append((version, [r for r in resources if "/" not in r["name"]]))
    return served


def _digest(item: dict[str, Any]) -> str:
    if item.get("endpoints") is not None:
        return "follows its pods"
    metadata = {k: v for k, v in item["metadata"].items() if k not in _VOLATILE}
    kept = {k: v for k, v in item.items() if k not in ("status", "metadata")} | {"m": metadata}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
