"""What is changed in an add-on's objects before they are applied: place and exposure.

Istio's samples name `istio-system` throughout, and some of them were once exposed by hand or by
Meshery's older adapter. Here they go to where the mesh lives, and stay inside unless asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from services.chassis.kube.objects import KubeObject, Ref
from services.lifecycle.cluster import istio

_SERVICE = ("", "Service")
_CLUSTER_IP, _LOAD_BALANCER = "ClusterIP", "LoadBalancer"
# As a whole word: `kiali-istio-system` is the name of something else.
_NAMED = re.compile(rf"(?<![\w-]){re.escape(istio.SYSTEM_NAMESPACE)}(?![\w-])")

Identity = tuple[str, str, str, str]


def identity(ref: Ref) -> Identity:
    """An object whatever the version of its API."""
    return (ref.group, ref.kind, ref.namespace, ref.name)


def move(objects: Iterable[KubeObject], namespace: str) -> None:
    """Moves a sample's objects to `namespace`, in place; cluster-scoped ones stay what they are.

    Bindings follow their accounts, and the texts of ConfigMaps (Kiali's root namespace, Grafana's
    queries) name the mesh's namespace too.
    """
    for obj in objects:
        if obj["metadata"].get("namespace"):
            obj["metadata"]["namespace"] = namespace
        for subject in obj.get("subjects") or []:
            if subject.get("namespace"):
                subject["namespace"] = namespace
        if obj["kind"] == "ConfigMap" and namespace != istio.SYSTEM_NAMESPACE:
            obj["data"] = {
                name: _NAMED.sub(namespace, text) for name, text in (obj.get("data") or {}).items()
            }


def expose(objects: Iterable[KubeObject], name: str) -> None:
    """Gives the Service `name` a load balancer ("" for none) and closes the others, in place.

    The type is always said: a field that is not said keeps what somebody else made of it.
    """
    for obj in objects:
        if Ref.of(obj).group_kind == _SERVICE:
            is_exposed = bool(name) and obj["metadata"]["name"] == name
            obj["spec"]["type"] = _LOAD_BALANCER if is_exposed else _CLUSTER_IP


def exposed_services(objects: Iterable[KubeObject]) -> list[Ref]:
    """The Services that are open to the outside."""
    refs = [(Ref.of(obj), obj) for obj in objects]
    return [
        ref
        for ref, obj in refs
        if ref.group_kind == _SERVICE and obj["spec"].get("type") == _LOAD_BALANCER
    ]


def shared(ours: Sequence[KubeObject], theirs: Sequence[KubeObject]) -> list[KubeObject]:
    """Those of `theirs` that `ours` has as well."""
    mine = {identity(Ref.of(obj)) for obj in ours}
    return [obj for obj in theirs if identity(Ref.of(obj)) in mine]
