"""What Meshery's seven vetters say of a cluster, computed from the state that is kept anyway.

The vetters' names and those of their notes are what people know; the texts are ours. Pods of one
workload make one note, where the old vetters made one per pod. Two Services on one pod are an error
only where they name different protocols for one port: with a headless Service beside another, two
on a pod are common now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.findings import Level
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Key, Pod, Service
from services.topology.cluster.state import State
from services.topology.mesh import images, protocols
from services.topology.mesh.membership import is_captured, is_ztunnel
from services.topology.mesh.meshes import SYSTEM_NAMESPACE, mesh_of

VETTERS = (
    "podsinmesh",
    "meshversion",
    "applabel",
    "serviceportprefix",
    "serviceassociation",
    "danglingroutedestinationhost",
    "conflictingvirtualservicehost",
)
_KUBERNETES_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True, slots=True)
class Note:
    """One line of one vetter; `object` is None for a note about the cluster."""

    vetter: str
    type: str
    """The note's name in the vetter, such as `missing-app-label`."""
    level: Level
    object: Key | None
    text: str

    def as_json(self) -> dict[str, Any]:
        key = self.object
        about = {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key else None
        return {
            "vetter": self.vetter,
            "type": self.type,
            "level": self.level.value,
            "object": about,
            "text": self.text,
        }


def notes(state: State) -> list[Note]:
    """The notes of all vetters, in their order."""
    pods = _Pods.of(state)
    return [
        *_pods_in_mesh(pods),
        *_mesh_versions(state, pods),
        *_app_labels(pods),
        *_port_prefixes(state, pods),
        *_associations(state, pods),
        *_dangling_hosts(state),
        *_conflicting_hosts(state),
    ]


def summary(found: Iterable[Note]) -> list[dict[str, Any]]:
    """How each vetter went: its name, the number of notes by level, and a line for people."""
    counts: dict[str, Counter[str]] = {vetter: Counter() for vetter in VETTERS}
    for note in found:
        counts[note.vetter][note.level.value] += 1
    return [
        {"vetter": vetter, "notes": dict(counted), "text": _told(vetter, counted)}
        for vetter, counted in counts.items()
    ]


def _told(vetter: str, counted: Mapping[str, int]) -> str:
    levels = [f"{counted[level]} {level}" for level in Level if counted.get(level)]
    return f"{vetter}: {', '.join(levels) if levels else 'nothing to tell'}"


@dataclass(frozen=True, slots=True)
class _Pods:
    """A cluster's pods, divided; those that have ended are left out."""

    system: tuple[Pod, ...]
    user: tuple[Pod, ...]
    mesh: tuple[Pod, ...]
    """Of the user's, those that are in the mesh."""

    @classmethod
    def of(cls, state: State) -> _Pods:
        system_spaces = {mesh_of(state).root_namespace, SYSTEM_NAMESPACE, *_KUBERNETES_NAMESPACES}
        alive = [p for p in state.all(kinds.POD) if p.phase not in ("Succeeded", "Failed")]
        user = tuple(p for p in alive if p.namespace not in system_spaces)
        return cls(
            system=tuple(p for p in alive if p.namespace in system_spaces),
            user=user,
            mesh=tuple(p for p in user if _is_in_mesh(p)),
        )

    def by_workload(self) -> dict[Key, list[Pod]]:
        found: dict[Key, list[Pod]] = defaultdict(list)
        for pod in self.mesh:
            found[pod.owner or pod.key].append(pod)
        return dict(sorted(found.items()))


def _is_in_mesh(pod: Pod) -> bool:
    return (pod.has_proxy and not is_ztunnel(pod)) or is_captured(pod)


def _pods_in_mesh(pods: _Pods) -> Iterator[Note]:
    yield Note(
        "podsinmesh",
        "user-pod-count",
        Level.INFO,
        None,
        f"{len(pods.mesh)} of {len(pods.user)} user pods are in the mesh",
    )
    yield Note(
        "podsinmesh",
        "system-pod-count",
        Level.INFO,
        None,
        f"{len(pods.system)} pods belong to the system's namespaces",
    )


def _mesh_versions(state: State, pods: _Pods) -> Iterator[Note]:
    """Each proxy against the control planes: with several revisions, any of them will do."""
    planes = {
        images.tag_of(container.image)
        for pod in state.all(kinds.POD)
        if pod.labels.get("app") == "istiod" or pod.labels.get("istio") == "pilot"
        for container in pod.containers
        if container.name == "discovery"
    } - {""}
    if not planes:
        return
    for owner, group in pods.by_workload().items():
        for container, name in ((images.PROXY, "sidecar"), ("istio-init", "init")):
            found = {images.tag_of(images.image_of(pod, container)) for pod in group} - {""}
            if found - planes:
                yield Note(
                    "meshversion",
                    f"{name}-image-mismatch",
                    Level.WARNING,
                    owner,
                    f"{owner}: the {name} image has version {', '.join(sorted(found - planes))}, "
                    f"the control plane {', '.join(sorted(planes))}",
                )


def _app_labels(pods: _Pods) -> Iterator[Note]:
    for owner, group in pods.by_workload().items():
        missing = [pod for pod in group if not pod.app]
        if missing:
            yield Note(
                "applabel",
                "missing-app-label",
                Level.WARNING,
                owner,
                f"{owner}: {_counted(len(missing), 'pod')} without the label app, so telemetry "
                "cannot name the application",
            )


def _services(state: State, pods: _Pods) -> dict[Key, tuple[Service, list[Pod]]]:
    """Services that send to pods in the mesh, with these pods."""
    found: dict[Key, tuple[Service, list[Pod]]] = {}
    for pod in pods.mesh:
        for service in state.services_of(pod.namespace, pod.labels):
            found.setdefault(service.key, (service, []))[1].append(pod)
    return dict(sorted(found.items()))


def _port_prefixes(state: State, pods: _Pods) -> Iterator[Note]:
    for key, (service, _) in _services(state, pods).items():
        for port in service.ports:
            if protocols.of_port(port):
                continue
            named = f"port {port.number}" + (f" ({port.name})" if port.name else " without a name")
            yield Note(
                "serviceportprefix",
                "missing-service-port-prefix",
                Level.WARNING,
                key,
                f"{key}: {named} does not say its protocol, so the proxy has to guess it",
            )


def _associations(state: State, pods: _Pods) -> Iterator[Note]:
    for owner, group in pods.by_workload().items():
        labels = group[0].labels
        services = sorted(state.services_of(owner.namespace, labels), key=lambda s: s.name)
        if len(services) < 2:
            continue
        names = ", ".join(service.name for service in services)
        spoken: dict[str, set[str]] = defaultdict(set)
        for service in services:
            for port in service.ports:
                spoken[port.target].add(protocols.of_port(port) or "an undeclared protocol")
        mixed = sorted(target for target, found in spoken.items() if len(found) > 1)
        tail = f", and they name different protocols for port {', '.join(mixed)}" if mixed else ""
        yield Note(
            "serviceassociation",
            "multiple-service-association",
            Level.ERROR if mixed else Level.INFO,
            owner,
            f"{owner} belongs to several Services: {names}{tail}",
        )


def _dangling_hosts(state: State) -> Iterator[Note]:
    for service in sorted(state.all(kinds.VIRTUAL_SERVICE), key=lambda vs: vs.key):
        missing: dict[str, None] = {}
        for _, destination, _ in hosts.destinations_of(service.spec):
            host = str(destination.get("host") or "")
            if host and not _is_known(state, hosts.expanded(host, service.namespace)):
                missing[host] = None
        for host in missing:
            yield Note(
                "danglingroutedestinationhost",
                "dangling-route-destination",
                Level.WARNING,
                service.key,
                f"{service.key} routes to {host}, which no Service and no ServiceEntry has",
            )


def _is_known(state: State, host: str) -> bool:
    place = hosts.service_of(host)
    if place is not None and state.get(kinds.SERVICE, *place) is not None:
        return True
    return any(
        hosts.covers(listed, host)
        for tag in (tags.host(host), tags.WILDCARD)
        for entry in state.tagged(kinds.SERVICE_ENTRY, tag)
        for listed in tags.texts(entry.spec, "hosts")
    )


def _conflicting_hosts(state: State) -> Iterator[Note]:
    """Hosts of several VirtualServices that the same proxies read."""
    users: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for service in state.all(kinds.VIRTUAL_SERVICE):
        for gateway in hosts.gateways_of(service.spec):
            for host in tags.texts(service.spec, "hosts"):
                name = hosts.expanded(host, service.namespace)
                users[name, _gateway(gateway, service.namespace)].add(service.key)
    told: set[tuple[str, tuple[Key, ...]]] = set()
    for (host, _), keys in sorted(users.items()):
        together = tuple(sorted(keys))
        if len(together) < 2 or (host, together) in told:
            continue
        told.add((host, together))
        names = ", ".join(f"{key.namespace}/{key.name}" for key in together)
        yield Note(
            "conflictingvirtualservicehost",
            "host-in-multiple-vs",
            Level.ERROR,
            together[0],
            f"host {host} is in several VirtualServices: {names}",
        )


def _gateway(name: str, namespace: str) -> str:
    return name if name == hosts.MESH else "/".join(hosts.qualified(name, namespace))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
