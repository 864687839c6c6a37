"""From a component to its Kubernetes object.

Settings come in two shapes. Models of Istio up to 1.18 describe the spec, so settings are the spec;
later models, and every other kind, describe the object, so settings have `spec` (or `data`, `rules`
and so on) in them. The older adapter put both below `spec`, which made `spec.spec` of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.chassis.kube.objects import KubeObject
from services.translator.designs.components import Component, quoted
from services.translator.designs.kinds import api_version_of, has_only_spec, is_cluster_scoped
from services.translator.designs.problems import Problems

# Names become parts of a URL and of a line of text; the API server knows each kind's own rule.
_NAME = re.compile(r"(?!\.{1,2}\Z)(?:(?![/%?#])[!-~]){1,253}\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
_KIND = re.compile(r"[A-Za-z][A-Za-z0-9]{0,62}\Z")
_API_VERSION = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,62}\Z")

# What no object takes from its settings; stray `annotations` are Meshery's notes.
_NOT_COPIED = frozenset({"annotations", "apiVersion", "kind", "metadata", "namespace", "status"})
# What may stand beside a spec in settings that are an object, and says nothing.
_BESIDE_SPEC = _NOT_COPIED | {"labels"}
# Fields of specs that have the name of an object's field.
_SPEC_FIELDS = {"WorkloadGroup": frozenset({"metadata"})}


def is_namespace(text: str) -> bool:
    return bool(_NAMESPACE.match(text))


def build(component: Component, *, default_namespace: str, problems: Problems) -> KubeObject | None:
    """The component's object; None when something is wrong with it, which `problems` then has."""
    api_version = component.api_version or api_version_of(
        component.kind, model=component.model, settings=component.settings
    )
    namespace = component.namespace or default_namespace
    if is_cluster_scoped(api_version, component.kind):
        namespace = ""
    faults = list(_identity_faults(component, api_version=api_version, namespace=namespace))
    body, more = _body(component, api_version=api_version)
    for fault in faults + more:
        problems.add(component.label, fault)
    if faults or more:
        return None
    metadata: dict[str, Any] = {"name": component.name}
    if namespace:
        metadata["namespace"] = namespace
    for name, pairs in (("labels", component.labels), ("annotations", component.annotations)):
        if pairs:
            metadata[name] = dict(pairs)
    return {"apiVersion": api_version, "kind": component.kind, "metadata": metadata, **body}


def _identity_faults(component: Component, *, api_version: str, namespace: str) -> list[str]:
    faults = []
    if not _KIND.match(component.kind):
        faults.append(f"{quoted(component.kind)} is not a kind")
    elif not api_version:
        faults.append("it has no api version, and the kind is not one that is known without")
    if api_version and not _API_VERSION.match(api_version):
        faults.append(f"{quoted(api_version)} is not an api version")
    if not _NAME.match(component.name):
        faults.append("its name cannot be an object's")
    if namespace and not is_namespace(namespace):
        faults.append(f"{quoted(namespace)} is not a namespace's name")
    return faults


def _body(component: Component, *, api_version: str) -> tuple[dict[str, Any], list[str]]:
    settings = component.settings
    if not has_only_spec(api_version, component.kind):
        return {key: settings[key] for key in settings if key not in _NOT_COPIED}, []
    spec, fault = _spec(settings, kind=component.kind)
    return {"spec": spec}, [fault] if fault else []


def _spec(settings: Mapping[str, Any], *, kind: str) -> tuple[dict[str, Any], str]:
    """The spec in either shape, and what is wrong with it."""
    if "spec" not in settings:
        left_out = _NOT_COPIED - _SPEC_FIELDS.get(kind, frozenset())
        return {key: settings[key] for key in settings if key not in left_out}, ""
    others = sorted(key for key in settings if key != "spec" and key not in _BESIDE_SPEC)
    if others:
        return (
            {},
            f"its settings have {quoted(others[0])} beside spec, and only one can be its spec",
        )
    spec = settings["spec"]
    # An earlier adapter's spec.spec, which some designs were imported with.
    while isinstance(spec, dict) and set(spec) == {"spec"}:
        spec = spec["spec"]
    if spec is not None and not isinstance(spec, dict):
        return {}, "its spec is not a mapping"
    if kind == "PeerAuthentication" and spec and "mTLS" in spec and "mtls" not in spec:
        # The prettifier's word for the field.
        spec = {("mtls" if key == "mTLS" else key): part for key, part in spec.items()}
    return spec or {}, ""
