"""The objects that a gate changes: as they are asked for, and as they were."""

from __future__ import annotations

from collections.abc import Sequence

from services.chassis.errors import LoadTestMalformed
from services.chassis.kube.manifests import parse_manifest
from services.chassis.kube.objects import KubeObject
from services.chassis.messages import ClusterFacts
from services.perf.definitions.options import PerformanceOptions
from services.perf.runs.store import GateRecord

_CLUSTERWIDE = ("GatewayClass",)
"""Kinds of the mesh's configuration that have no namespace."""
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def changed(options: PerformanceOptions, namespace: str) -> list[KubeObject]:
    """The objects of the change; those without a namespace go into `namespace`."""
    if not options.change.strip():
        raise LoadTestMalformed(
            "change of the PerformanceOptions is missing",
            remedy="put the manifest that is to be tried into spec.change of the options",
        )
    objects = parse_manifest(options.change)
    for obj in objects:
        if obj["kind"] in _CLUSTERWIDE:
            obj["metadata"].pop("namespace", None)
        else:
            obj["metadata"]["namespace"] = obj["metadata"].get("namespace") or namespace
    return objects


def former(change: Sequence[KubeObject], facts: ClusterFacts) -> GateRecord:
    """The record that says how the objects were."""
    there = {_identity(obj): obj for obj in facts.objects}
    return GateRecord(
        former=[_own(there[_identity(obj)]) for obj in change if _identity(obj) in there],
        absent=[_bare(obj) for obj in change if _identity(obj) not in there],
    )


def _identity(obj: KubeObject) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return kind_of(obj), metadata.get("namespace", ""), metadata["name"]


def kind_of(obj: KubeObject) -> str:
    """Group and kind, as lifecycle names them."""
    return f"{obj['apiVersion'].rpartition('/')[0]}/{obj['kind']}"


def names(objects: Sequence[KubeObject]) -> str:
    """For people."""
    return ", ".join(
        f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
        for obj in objects
    )


def _bare(obj: KubeObject) -> KubeObject:
    kept = {k: v for k, v in obj["metadata"].items() if k in ("name", "namespace")}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": kept}


def _own(obj: KubeObject) -> KubeObject:
    """The object as a user would write it, to apply it again."""
    bare = _bare(obj)
    metadata = obj["metadata"]
    annotations = {k: v for k, v in metadata.get("annotations", {}).items() if k != _LAST_APPLIED}
    kept = {"labels": metadata.get("labels"), "annotations": annotations}
    bare["metadata"] |= {name: value for name, value in kept.items() if value}
    others = {k: v for k, v in obj.items() if k not in ("metadata", "status")}
    return {**others, **bare}
