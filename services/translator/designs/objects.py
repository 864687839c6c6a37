"""From a component to its Kubernetes object.

Settings come in two shapes. Models of Istio up to 1.18 describe the spec, so settings are the spec;
later models, and every other kind, describe the object, so settings have `spec` (or `data`, `rules`
and so on) in them. The older adapter put both below `spec`, which made `spec.spec` of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.chassis.kube.objects import KubeObject
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.translator.designs.components import Component, quoted
from services.translator.reports import Report

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


def build(component: Component, *, default_namespace: str, report: Report) -> KubeObject | None:
    """The component's object; None when it has errors, which are added to `report`."""
    api_version = component.api_version or api_version_of(
        component.kind, model=component.model, settings=component.settings
    )
    namespace = component.namespace or default_namespace
    if is_cluster_scoped(api_version, component.kind):
        namespace = ""
    faults = list(_identity_faults(component, api_version=api_version, namespace=namespace))
    body, more = _body(component, api_version=api_version)
    for fault in faults + more:
        report.error((), fault)
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


# ---- Kinds by name -------------------------------------------------------------------------------

# Old designs tell a type and no api version; `kinds.yaml` has those of the kinds that occur.

_GATEWAY_API = "gateway.networking.k8s.io"
_SPEC_GROUPS = (".istio.io", ".smi-spec.io")


class _Kinds(BaseModel):
    """The tables of `kinds.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: dict[str, list[str]]
    """Kinds by api version."""
    cluster_scoped: dict[str, list[str]]
    """Kinds by group."""
    without_spec: dict[str, list[str]]
    """Kinds by api version."""


def _read_kinds() -> _Kinds:
    text = files(__package__).joinpath("kinds.yaml").read_text()
    return _Kinds.model_validate(read_yaml(text, budget=Budget.trusted()))


_KINDS = _read_kinds()
_VERSION_OF = {kind: version for version, kinds in _KINDS.versions.items() for kind in kinds}


def api_version_of(kind: str, *, model: str, settings: Mapping[str, Any]) -> str:
    """The api version of a kind that came without one; "" for a kind that is not known here.

    `Gateway`, `TCPRoute` and `UDPRoute` are names of two kinds each: the model decides, then the
    fields that only one of the two has.
    """
    spec = settings.get("spec")
    fields = spec if isinstance(spec, Mapping) else settings
    if kind == "Gateway" and ("gateway-api" in model or "gatewayClassName" in fields):
        return f"{_GATEWAY_API}/v1"
    if kind in ("TCPRoute", "UDPRoute") and (
        "gateway-api" in model or "rules" in fields or "parentRefs" in fields
    ):
        return f"{_GATEWAY_API}/v1"
    return _VERSION_OF.get(kind, "")


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def is_cluster_scoped(api_version: str, kind: str) -> bool:
    """True for the kinds of Kubernetes and the Gateway API that live in no namespace."""
    return kind in _KINDS.cluster_scoped.get(group_of(api_version), ())


def has_only_spec(api_version: str, kind: str) -> bool:
    """True for Istio's, the Gateway API's and SMI's kinds: all that they say stands in `spec`."""
    group = group_of(api_version)
    return (group == _GATEWAY_API or group.endswith(_SPEC_GROUPS)) and (
        kind not in _KINDS.without_spec.get(api_version, ())
    )
