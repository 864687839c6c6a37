"""Where a cluster's Prometheus may be: Services that are watched anyway, in the order to ask them.

Whoever wants to be sure annotates the Service:

    meshbus.io/prometheus: "true"             its usual port
    meshbus.io/prometheus: https:web/prom     scheme, port by name or number, path before `/api`
    meshbus.io/prometheus: "false"            never this one
    meshbus.io/prometheus-labels: cluster=a   the series that are this cluster's, where it has more

Without annotations, names and labels count that charts and manifests give to a Prometheus, in the
mesh's own namespaces and in those where people put one. A name alone says little elsewhere: a
tenant's Prometheus scrapes a tenant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.objects import Change, Endpoints, Key, Port, Service
from services.topology.cluster.state import State
from services.topology.mesh.meshes import SYSTEM_NAMESPACE, mesh_of
from services.topology.telemetry.selecting import read_labels

ANNOTATION = "meshbus.io/prometheus"
LABELS_ANNOTATION = "meshbus.io/prometheus-labels"

_NAMESPACES = (
    SYSTEM_NAMESPACE,
    "monitoring",
    "prometheus",
    "observability",
    "kube-prometheus",
    "kube-prometheus-stack",
    "telemetry",
    "metrics",
)
_NAMES = ("prometheus", "prometheus-server", "prometheus-k8s", "prometheus-operated")
_CHART, _OF_CHART = "kube-prometheus", "-prometheus"
"""In the name that the chart kube-prometheus-stack gives it, whatever the release is called."""
_COMPONENTS = ("", "server", "prometheus")
"""Of an application `prometheus`; its alert manager and its exporters are others."""
_PORTS = ("http-web", "web", "http", "prometheus", "https-web", "https")
_NUMBERS = (9090, 80, 443)
_REFERENCE = re.compile(
    r"(?:(?P<scheme>https?):)?(?P<port>[a-z0-9]+(?:-[a-z0-9]+)*)(?P<path>(?:/[A-Za-z0-9_~-][\w.~-]*)*)/?"
)
_SERVICE = re.compile(r"([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)/([a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A port of a Service, as the API server's proxy is asked for it."""

    namespace: str
    name: str
    port: int
    scheme: str = "http"
    path: str = ""
    """Before `/api`, without a slash at its end."""
    labels: tuple[tuple[str, str], ...] = ()
    """Of the series that are this cluster's."""
    is_registered: bool = False

    def __str__(self) -> str:
        said_by = "named at the registration" if self.is_registered else "found"
        return f"Prometheus {self.namespace}/{self.name} ({said_by})"

    @property
    def key(self) -> Key:
        return Key(kinds.SERVICE, self.namespace, self.name)

    @property
    def proxy_path(self) -> str:
        service = f"{self.scheme}:{self.name}:{self.port}"
        return f"/api/v1/namespaces/{self.namespace}/services/{service}/proxy{self.path}"


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration says of its cluster's Prometheus: the extension `meshbus.io/prometheus`
    of its kubeconfig's context or cluster."""

    service: Key | None = None
    port: str = ""
    """As in the annotation."""
    url: str = field(default="", repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why it says nothing."""

    @classmethod
    def of(cls, extensions: Mapping[str, Any]) -> Registered:
        """One that cannot be used is told, and not believed in parts."""
        told = extensions.get(ANNOTATION)
        if told is None:
            return cls()
        try:
            return cls._read(told)
        except ValueError as error:
            return cls(problem=f"{ANNOTATION} of the registration: {error}")

    @classmethod
    def _read(cls, told: Any) -> Registered:
        if not isinstance(told, dict) or not all(isinstance(one, str) for one in told.values()):
            raise ValueError("it is no mapping of texts")
        unknown = told.keys() - {"service", "port", "url", "labels"}
        if unknown:
            raise ValueError("it has `service`, `port`, `url` and `labels`, and nothing else")
        service, url = told.get("service", ""), told.get("url", "")
        if service and url:
            raise ValueError("it has either a `service` or a `url`")
        match = _SERVICE.fullmatch(service)
        if service and match is None:
            raise ValueError("`service` is NAMESPACE/NAME")
        return cls(
            service=Key(kinds.SERVICE, *match.groups()) if match else None,
            port=told.get("port", ""),
            url=url,
            labels=read_labels(told.get("labels", "")),
        )


NOT_REGISTERED = Registered()


@dataclass(frozen=True, slots=True)
class Places:
    """Those of one moment, in the order to ask them; `notes` are about Services that are none."""

    found: tuple[Place, ...]
    notes: tuple[str, ...] = ()


def places_of(state: State, registered: Registered = NOT_REGISTERED) -> Places:
    """All Services that may be the Prometheus of a cluster."""
    notes = [registered.problem] if registered.problem else []
    found: list[Place] = []
    for service in _services(state, registered):
        is_registered = service.key == registered.service
        try:
            place = _place(service, registered, is_registered=is_registered)
        except ValueError as error:
            notes.append(f"Service {service.namespace}/{service.name}: {error}")
            continue
        if _is_unready(state, service):
            notes.append(f"{place}: no endpoint is ready")
        else:
            found.append(place)
    if registered.service is not None and state.at(registered.service) is None:
        service_name = f"{registered.service.namespace}/{registered.service.name}"
        notes.insert(0, f"Service {service_name}: named at the registration, and not there")
    return Places(tuple(found), tuple(notes))


def concerns(
    changes: Iterable[Change], state: State, registered: Registered = NOT_REGISTERED
) -> bool:
    """Whether changes may be about where the cluster's Prometheus is."""
    return any(_concerns(change, state, registered) for change in changes)


def _concerns(change: Change, state: State, registered: Registered) -> bool:
    if change.key.kind == kinds.SERVICE:
        sides = (change.before, change.after)
        return change.key == registered.service or any(
            side is not None and _may_be(side) for side in sides
        )
    if change.key.kind != kinds.ENDPOINTS or _ready(change.before) == _ready(change.after):
        return False
    name = (change.after or change.before).service
    service = state.get(kinds.SERVICE, change.key.namespace, name)
    return service is not None and (service.key == registered.service or _may_be(service))


def _ready(endpoints: Endpoints | None) -> bool:
    return endpoints is not None and endpoints.ready > 0


def _is_unready(state: State, service: Service) -> bool:
    """Whether its endpoints are known, and none is ready."""
    slices = [
        one for one in state.all(kinds.ENDPOINTS, service.namespace) if one.service == service.name
    ]
    return bool(slices) and not any(map(_ready, slices))


# --- which Services ------------------------------------------------------------------------------


def _services(state: State, registered: Registered) -> Iterator[Service]:
    mesh = mesh_of(state)
    namespaces = dict.fromkeys((mesh.root_namespace, mesh.system_namespace, *_NAMESPACES))
    places = {namespace: number for number, namespace in enumerate(namespaces)}

    def order(service: Service) -> tuple[bool, bool, int, int, Key]:
        return (
            service.key != registered.service,
            ANNOTATION not in service.annotations,
            places.get(service.namespace, len(places)),
            _NAMES.index(service.name) if service.name in _NAMES else len(_NAMES),
            service.key,
        )

    yield from sorted(
        (
            service
            for service in state.all(kinds.SERVICE)
            if service.key == registered.service
            or (
                _may_be(service)
                and (service.namespace in places or ANNOTATION in service.annotations)
            )
        ),
        key=order,
    )


def _may_be(service: Service) -> bool:
    told = service.annotations.get(ANNOTATION)
    if told is not None:
        return told != "false"
    labels = service.labels
    component = labels.get("app.kubernetes.io/component") or labels.get("component") or ""
    if component not in _COMPONENTS:
        return False
    return (
        service.name in _NAMES
        or (_CHART in service.name and service.name.endswith(_OF_CHART))
        or labels.get("app.kubernetes.io/name") == "prometheus"
        or labels.get("app") == "prometheus"
    )


# --- how it is reached ---------------------------------------------------------------------------


def _place(service: Service, registered: Registered, *, is_registered: bool) -> Place:
    """Raises `ValueError` with the reason why it cannot be one."""
    if service.type == "ExternalName":
        raise ValueError("the API server leads to pods only, and this is another name")
    told = service.annotations.get(ANNOTATION, "")
    if is_registered and registered.port:
        told = registered.port
    scheme, wanted, path = _reference("" if told == "true" else told)
    port = _port(service, wanted)
    labels = read_labels(service.annotations.get(LABELS_ANNOTATION, ""))
    if is_registered or registered.service is None:
        labels = dict(registered.labels) or labels
    return Place(
        namespace=service.namespace,
        name=service.name,
        port=port.number,
        scheme=scheme or ("https" if _is_https(port) else "http"),
        path=path,
        labels=tuple(sorted(labels.items())),
        is_registered=is_registered,
    )


def _reference(text: str) -> tuple[str, str, str]:
    """Scheme, port and path; each may be ""."""
    if not text:
        return "", "", ""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise ValueError(f"{ANNOTATION} is true, false, or SCHEME:PORT/PATH")
    return match["scheme"] or "", match["port"], match["path"]


def _port(service: Service, wanted: str) -> Port:
    ports = [port for port in service.ports if port.protocol == "TCP"]
    if wanted:
        ports = [port for port in ports if wanted in (port.name, str(port.number))]
        if not ports:
            raise ValueError(f"it has no port {wanted}")
    if not ports:
        raise ValueError("it has no port of TCP")
    return min(ports, key=_preference)


def _preference(port: Port) -> tuple[int, int]:
    by_name = _PORTS.index(port.name) if port.name in _PORTS else len(_PORTS)
    by_number = _NUMBERS.index(port.number) if port.number in _NUMBERS else len(_NUMBERS)
    return by_name, by_number


def _is_https(port: Port) -> bool:
    return port.name.startswith("https") or port.app_protocol == "https" or port.number == 443
