"""From the API server's JSON to the records that are kept.

Labels, annotations and containers are shared between records that have the same: most pods are
copies of each other. What has not been met for a while is let go: each rollout brings labels that
never come again, and a worker that watches for weeks would keep those of all pods that ever were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.chassis.errors import TooManyValues
from services.chassis.kube.objects import KubeObject
from services.chassis.reading.limits import Budget
from services.chassis.reading.yamls import read_yaml
from services.topology.cluster import kinds
from services.topology.cluster.objects import (
    Config,
    Container,
    Endpoints,
    Key,
    Labels,
    Namespace,
    Object,
    Pod,
    Port,
    Service,
    Workload,
)

T = TypeVar("T")

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HASH = "pod-template-hash"
_SERVICE_NAME = "kubernetes.io/service-name"
_GENERATION = 2_000
"""Values that are met before the ones of the generation before are let go. Copies come together: a
list is in the order of names, and a rollout is one moment."""
_ASKED_VARIABLES = frozenset({"BLOCKED_CIDRS_IN_JWKS_URIS"})


@dataclass(slots=True)
class Reader:
    """Reads the objects of one cluster."""

    _shared: dict[Any, Any] = field(default_factory=dict)
    """Values by what they are equal by, that were met in this generation."""
    _earlier: dict[Any, Any] = field(default_factory=dict)
    """Those of the one before."""

    def read(self, kind: str, obj: KubeObject) -> Object:
        """The record of an object of one of the watched kinds."""
        metadata = obj.get("metadata") or {}
        known: dict[str, Any] = {
            "key": Key(kind, metadata.get("namespace") or "", metadata.get("name") or ""),
            "uid": metadata.get("uid") or "",
            "labels": self._labels(metadata.get("labels")),
            "annotations": self._labels(metadata.get("annotations")),
            "created": metadata.get("creationTimestamp") or "",
        }
        match kind:
            case kinds.NAMESPACE:
                return Namespace(**known, is_terminating="deletionTimestamp" in metadata)
            case kinds.SERVICE:
                return self._service(obj, known)
            case kinds.ENDPOINTS:
                return _endpoints(obj, known)
            case kinds.POD:
                return self._pod(obj, known)
            case kinds.DEPLOYMENT | kinds.STATEFUL_SET | kinds.DAEMON_SET:
                return self._workload(obj, known)
            case kinds.CONFIG_MAP:
                return Config(**known, api_version="v1", spec=_parsed(obj.get("data") or {}))
        return _config(obj, known)

    # --- what pods share ------------------------------------------------------------------------

    def share(self, value: T) -> T:
        """The first value that was equal to this one."""
        return self._first(value, value)

    def _first(self, equal_by: Any, value: T) -> T:
        found: T | None = self._shared.get(equal_by)
        if found is not None:
            return found
        first: T = self._earlier.get(equal_by, value)
        if len(self._shared) >= _GENERATION:
            self._shared, self._earlier = {}, self._shared
        self._shared[equal_by] = first
        return first

    def _labels(self, found: Mapping[str, str] | None) -> Labels:
        if not found:
            return _EMPTY
        kept = {k: v for k, v in found.items() if k != _LAST_APPLIED}
        return self._first(frozenset(kept.items()), kept)

    def _containers(self, spec: Mapping[str, Any]) -> tuple[Container, ...]:
        found = [
            _container(container, is_init=is_init)
            for is_init, name in ((True, "initContainers"), (False, "containers"))
            for container in spec.get(name) or ()
        ]
        return self.share(tuple(found))

    # --- kinds ----------------------------------------------------------------------------------

    def _service(self, obj: KubeObject, known: dict[str, Any]) -> Service:
        spec = obj.get("spec") or {}
        ports = tuple(
            Port(
                number=port["port"],
                name=port.get("name") or "",
                protocol=port.get("protocol") or "TCP",
                app_protocol=port.get("appProtocol") or "",
                target=str(port.get("targetPort") or port["port"]),
                node_port=port.get("nodePort") or 0,
            )
            for port in spec.get("ports") or ()
        )
        return Service(
            **known,
            type=spec.get("type") or "ClusterIP",
            selector=self._labels(spec.get("selector")),
            ports=self.share(ports),
            cluster_ip=spec.get("clusterIP") or "",
            external_name=spec.get("externalName") or "",
            conditions=tuple((obj.get("status") or {}).get("conditions") or ()),
        )

    def _workload(self, obj: KubeObject, known: dict[str, Any]) -> Workload:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        template = spec.get("template") or {}
        replicas = spec.get("replicas")
        wanted = 1 if replicas is None else replicas
        ready = status.get("readyReplicas") or 0
        if known["key"].kind == kinds.DAEMON_SET:
            wanted = status.get("desiredNumberScheduled") or 0
            ready = status.get("numberReady") or 0
        return Workload(
            **known,
            **self._runs(template.get("metadata") or {}, template.get("spec") or {}),
            selector=self._labels((spec.get("selector") or {}).get("matchLabels")),
            wanted=wanted,
            ready=ready,
        )

    def _pod(self, obj: KubeObject, known: dict[str, Any]) -> Pod:
        metadata, status = obj["metadata"], obj.get("status") or {}
        conditions = status.get("conditions") or ()
        return Pod(
            **known,
            **self._runs(metadata, obj.get("spec") or {}),
            owner=self._owner(metadata),
            phase=status.get("phase") or "",
            is_ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
            is_terminating="deletionTimestamp" in metadata,
            ip=status.get("podIP") or "",
        )

    def _runs(self, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "pod_labels": self._labels(metadata.get("labels")),
            "pod_annotations": self._labels(metadata.get("annotations")),
            "account": spec.get("serviceAccountName") or "default",
            "containers": self._containers(spec),
            "host_network": bool(spec.get("hostNetwork")),
            "run_as_user": (spec.get("securityContext") or {}).get("runAsUser"),
        }

    def _owner(self, metadata: Mapping[str, Any]) -> Key | None:
        for owner in metadata.get("ownerReferences") or ():
            if not owner.get("controller"):
                continue
            kind, name = str(owner.get("kind")), str(owner.get("name"))
            group = str(owner.get("apiVersion") or "").rpartition("/")[0]
            suffix = (metadata.get("labels") or {}).get(_HASH)
            if kind == "ReplicaSet" and suffix and name.endswith(f"-{suffix}"):
                # A Deployment names its ReplicaSets for the hash that it puts on their pods, so
                # ReplicaSets, which are many and mostly old, need not be watched.
                kind, name = "Deployment", name.removesuffix(f"-{suffix}")
            return self.share(Key(f"{group}/{kind}", metadata.get("namespace") or "", name))
        return None


_EMPTY: Labels = {}


def _container(container: Mapping[str, Any], *, is_init: bool) -> Container:
    ports = tuple(
        Port(
            number=port["containerPort"],
            name=port.get("name") or "",
            protocol=port.get("protocol") or "TCP",
        )
        for port in container.get("ports") or ()
    )
    return Container(
        name=container.get("name") or "",
        image=container.get("image") or "",
        ports=ports,
        run_as_user=(container.get("securityContext") or {}).get("runAsUser"),
        is_init=is_init,
        variables=tuple(
            variable["name"]
            for variable in container.get("env") or ()
            if variable.get("name") in _ASKED_VARIABLES and variable.get("value")
        ),
    )


def _endpoints(obj: KubeObject, known: dict[str, Any]) -> Endpoints:
    ready = unready = 0
    for endpoint in obj.get("endpoints") or ():
        count = len(endpoint.get("addresses") or ())
        # Absent means ready.
        if (endpoint.get("conditions") or {}).get("ready") is False:
            unready += count
        else:
            ready += count
    service = known["labels"].get(_SERVICE_NAME, "")
    return Endpoints(**known, service=service, ready=ready, unready=unready)


def _config(obj: KubeObject, known: dict[str, Any]) -> Config:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        spec = {k: v for k, v in obj.items() if k not in ("metadata", "apiVersion", "kind")}
    status = obj.get("status")
    if not isinstance(status, dict):
        status = {}
    conditions = list(status.get("conditions") or ())
    for parent in status.get("parents") or ():
        conditions += parent.get("conditions") or ()
    addresses = (a.get("value") for a in status.get("addresses") or () if isinstance(a, dict))
    return Config(
        **known,
        api_version=obj.get("apiVersion") or "",
        spec=spec,
        conditions=tuple(conditions),
        addresses=tuple(str(address) for address in addresses if address),
        generation=(obj.get("metadata") or {}).get("generation") or 0,
    )


_SETTINGS = ("mesh", "meshNetworks", "values")
_TEXTS = ("root-cert.pem",)
_MOST_SETTINGS = 50_000
"""Values in one of Istio's ConfigMaps, some fifty times those of a large mesh."""


def _parsed(data: Mapping[str, str]) -> dict[str, Any]:
    """Istio's ConfigMaps with their YAML decoded, without the injection templates."""
    found: dict[str, Any] = {name: data[name] for name in _TEXTS if name in data}
    for name in _SETTINGS:
        with contextlib.suppress(ValueError, TooManyValues):
            if name in data:
                found[name] = read_yaml(data[name], budget=Budget.fresh(nodes=_MOST_SETTINGS))
    return found
