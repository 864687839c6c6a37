"""Raw objects of any shape: a field that is missing or of the wrong type reads as empty.

Whether the shape is right is checked by the schema, not by the rules that read through this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.chassis.kube.objects import MANAGED_BY, MANAGER, KubeObject, Ref
from services.translator.reports import Path

SYSTEM_NAMESPACE = "istio-system"
"""Root namespace of a mesh that is not known; where Meshbus installs one."""
_WITH_TEMPLATE = {
    ("apps", "Deployment"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("apps", "ReplicaSet"),
    ("batch", "Job"),
}


def mapping(value: Any) -> dict[str, Any]:
    """`value` itself if it is a mapping, else a new empty one."""
    return value if isinstance(value, dict) else {}


def inner(value: Any, *keys: str) -> dict[str, Any]:
    """The mapping below `keys`; the live one, so that what is changed in it is changed there."""
    for key in keys:
        value = mapping(value).get(key)
    return mapping(value)


def entries(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """The mappings of a list, each with its place."""
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, dict))


def texts(value: Any) -> list[str]:
    """The texts of a list."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def placed_texts(value: Any) -> Iterator[tuple[int, str]]:
    """The texts of a list, each with its place."""
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, str))


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def subject_of(obj: KubeObject) -> Ref:
    """The object as the subject of a finding, also when its metadata is malformed."""
    return Ref(
        api_version=text(obj.get("apiVersion")),
        kind=text(obj.get("kind")),
        namespace=namespace_of(obj),
        name=name_of(obj),
    )


def group_kind(obj: KubeObject) -> tuple[str, str]:
    return (text(obj.get("apiVersion")).rpartition("/")[0], text(obj.get("kind")))


def name_of(obj: KubeObject) -> str:
    return text(inner(obj, "metadata").get("name"))


def namespace_of(obj: KubeObject) -> str:
    return text(inner(obj, "metadata").get("namespace"))


def managed(
    ref: Ref, spec: Mapping[str, Any], *, annotations: Mapping[str, str] | None = None
) -> KubeObject:
    """An object with the label by which Meshbus knows its own; only such objects it replaces."""
    metadata: dict[str, Any] = {
        "name": ref.name,
        "namespace": ref.namespace,
        "labels": {MANAGED_BY: MANAGER},
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": metadata,
        "spec": dict(spec),
    }


def pod_path(obj: KubeObject) -> Path | None:
    """Path of the pod template of a workload: () for a Pod, None for kinds without one."""
    if group_kind(obj) == ("", "Pod"):
        return ()
    if group_kind(obj) == ("batch", "CronJob"):
        return ("spec", "jobTemplate", "spec", "template")
    return ("spec", "template") if group_kind(obj) in _WITH_TEMPLATE else None


def at(obj: Any, path: Path) -> dict[str, Any]:
    """The mapping at `path`; empty for anything else."""
    for part in path:
        if isinstance(part, int):
            obj = obj[part] if isinstance(obj, list) and part < len(obj) else None
        else:
            obj = mapping(obj).get(part)
    return mapping(obj)


def containers(obj: KubeObject) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The containers of a workload, init containers too, each with its path."""
    pod = pod_path(obj)
    if pod is None:
        return
    for field in ("initContainers", "containers"):
        for index, container in entries(at(obj, (*pod, "spec")).get(field)):
            yield (*pod, "spec", field, index), container


def copied(value: Any) -> Any:
    """A deep copy, so that a change does not reach the original."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def walked(value: Any, path: Path = ()) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every mapping in `value`, itself included, outer ones first, each with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from walked(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walked(item, (*path, index))
