"""Cases for rules about a mesh: a few objects in a namespace, and what a code finds in them.

The same cases run against our rules alone, and against the real istioctl on a real cluster, so a
case holds whole objects in the API server's own form; what most objects have alike is filled in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from services.topology.analysis.engine import Analysis
from services.topology.analysis.findings import Finding
from services.topology.analysis.rules import RULES
from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Key
from services.topology.cluster.reading import Reader
from services.topology.cluster.state import State

_VERSIONS = {
    "": "v1",
    "apps": "apps/v1",
    "admissionregistration.k8s.io": "admissionregistration.k8s.io/v1",
    "networking.istio.io": "networking.istio.io/v1",
    "security.istio.io": "security.istio.io/v1",
    "telemetry.istio.io": "telemetry.istio.io/v1",
    "extensions.istio.io": "extensions.istio.io/v1alpha1",
    "gateway.networking.k8s.io": "gateway.networking.k8s.io/v1",
}
_OTHER_VERSIONS = {
    kinds.ENVOY_FILTER: "networking.istio.io/v1alpha3",
    kinds.PROXY_CONFIG: "networking.istio.io/v1beta1",
}
_CONTAINERS = [{"name": "app", "image": "app"}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`finds` are the objects of which the code is found; none for a case that must pass."""

    name: str
    """Its namespace, too; `HERE` in the text."""
    code: str
    text: str
    """YAML documents."""
    finds: tuple[str, ...] = ()
    """`Kind name` in the case's namespace, or `Kind namespace/name`; `Namespace name`."""
    labels: str = "istio-injection: disabled"
    """Of the namespace, as YAML; the default keeps IST0102 out of all cases."""
    world: str = ""
    """Which of `WORLDS` it needs."""
    istioctl: tuple[str, ...] | None = None
    """What istioctl finds, where it differs."""
    because: str = ""
    """Why it may differ."""
    more: tuple[str, ...] = ()
    """Further codes that istioctl alone tells of the same objects for that reason."""

    @property
    def ours(self) -> set[str]:
        return {self._full(found) for found in self.finds}

    @property
    def theirs(self) -> set[str]:
        return self.ours if self.istioctl is None else {self._full(f) for f in self.istioctl}

    def objects(self) -> list[dict[str, Any]]:
        """The case's objects, its namespace first."""
        labels = yaml.safe_load(self.labels) or {}
        own = _namespace(self.name, labels)
        return [own, *(_filled(o, self.name) for o in _documents(self._here(self.text)))]

    def _here(self, text: str) -> str:
        return text.replace("HERE", self.name)

    def _full(self, found: str) -> str:
        kind, name = self._here(found).split()
        is_full = "/" in name or kind in ("Namespace", "MutatingWebhookConfiguration")
        return f"{kind} {name if is_full else f'{self.name}/{name}'}"


def cases(code: str, *found: dict[str, Any]) -> list[Case]:
    """Cases of one code; those without a name are `ist0101-1`, `ist0101-2`, …"""
    return [
        Case(**{"name": f"{code.lower()}-{number}", "code": code, **one})
        for number, one in enumerate(found, start=1)
    ]


_INJECTOR = """
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data:
  values: '{"global": {"hub": "docker.io/istio", "tag": "1.31.0", "proxy": {"image": "proxyv2"}},
    "sidecarInjectorWebhook": {"enableNamespacesByDefault": %s}}'
"""
_MESH = """
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  meshNetworks: 'networks: {}'
  mesh: |
    defaultProviders: {accessLogging: [envoy]}
    rootNamespace: istio-system
    defaultConfig:
      image: {imageType: distroless}
      proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true", PILOT_ENABLE_IP_AUTOALLOCATE: "true"}
"""
WORLDS = {
    "": _INJECTOR % "false",
    "injected by default": _INJECTOR % "true",
    "settings": f"{_INJECTOR % 'false'}---{_MESH}",
}
"""What is there beside the cases, in the order in which the worlds replace each other."""


def world(name: str) -> list[dict[str, Any]]:
    """The objects of one of `WORLDS`."""
    system = _namespace("istio-system", {"istio-injection": "disabled"})
    return [system, *(_filled(o, "istio-system") for o in _documents(WORLDS[name]))]


def kind_of(obj: dict[str, Any]) -> str:
    """`group/Kind`. A Gateway without an `apiVersion` is Istio's."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    if "apiVersion" not in obj:
        group = next(kind.partition("/")[0] for kind in _KINDS if kinds.short(kind) == obj["kind"])
    return f"{group}/{obj['kind']}"


def key_of(obj: dict[str, Any]) -> Key:
    """The key of the object's record."""
    metadata = obj["metadata"]
    return Key(kind_of(obj), metadata.get("namespace", ""), metadata["name"])


_KINDS = (
    *kinds.ALWAYS,
    *(kinds.CONFIG_MAP, kinds.VIRTUAL_SERVICE, kinds.DESTINATION_RULE, kinds.GATEWAY),
    *(kinds.SERVICE_ENTRY, kinds.SIDECAR, kinds.WORKLOAD_ENTRY, kinds.ENVOY_FILTER),
    *(kinds.PROXY_CONFIG, kinds.AUTHORIZATION_POLICY, kinds.REQUEST_AUTHENTICATION),
    *(kinds.TELEMETRY, kinds.WASM_PLUGIN, kinds.HTTP_ROUTE, kinds.GRPC_ROUTE),
)


def state_of(objects: Iterable[dict[str, Any]]) -> State:
    """As watches would fill it."""
    state, reader = State("c"), Reader()
    for obj in objects:
        state.put(reader.read(kind_of(obj), obj))
    return state


def findings_of(state: State) -> set[Finding]:
    """All that a fresh analysis finds."""
    analysis = Analysis(state, RULES)
    analysis.touch(Change(o.key, None, o) for kind in state.kinds() for o in state.all(kind))
    while analysis.is_due:
        analysis.evaluate()
    return set(analysis.findings)


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


def _documents(text: str) -> Iterator[dict[str, Any]]:
    return (found for found in yaml.safe_load_all(text) if found)


def _filled(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The whole object of one that says just what matters."""
    kind = kind_of(obj)
    metadata = dict(obj["metadata"])
    if kind not in (kinds.NAMESPACE, kinds.WEBHOOK):
        metadata.setdefault("namespace", namespace)
    version = _OTHER_VERSIONS.get(kind, _VERSIONS[kind.partition("/")[0]])
    found = {"apiVersion": version, **obj, "metadata": metadata}
    if kind == kinds.POD:
        found["spec"] = {"containers": _CONTAINERS, **(obj.get("spec") or {})}
    elif kind == kinds.DEPLOYMENT:
        found["spec"] = _deployment(obj.get("spec") or {})
    elif kind == kinds.WEBHOOK:
        found["webhooks"] = [_webhook(webhook) for webhook in obj["webhooks"]]
    return found


def _deployment(spec: dict[str, Any]) -> dict[str, Any]:
    """Without replicas: the pods of the cases are those that the cases have."""
    template = spec.get("template") or {}
    metadata = {"labels": {"app": "app"}, **(template.get("metadata") or {})}
    return {
        "replicas": 0,
        "selector": {"matchLabels": metadata["labels"]},
        "template": {
            "metadata": metadata,
            "spec": {"containers": _CONTAINERS, **(template.get("spec") or {})},
        },
    }


def _webhook(webhook: dict[str, Any]) -> dict[str, Any]:
    """One that no request ever meets."""
    rule = {
        "apiGroups": ["nothing.example.com"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["nothings"],
    }
    return {
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "rules": [rule],
        **webhook,
    }
