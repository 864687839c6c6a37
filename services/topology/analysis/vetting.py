"""The notes of Meshery's seven vetters about a cluster.

The vetters' names and those of their notes are what people know; the texts are ours. What the
analysis finds anyway, three of the vetters tell again as notes, in its words and at its level. The
other four count pods and compare versions, labels and Services, which no code of the catalogue is
about. Pods of one workload make one note, where the old vetters made one per pod. Two Services on
one pod are an error only where they name different protocols for one port: with a headless Service
beside another, two on a pod are common now.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from services.topology.analysis.findings import Finding, Level
from services.topology.cluster import kinds
from services.topology.cluster.objects import Key, Pod
from services.topology.cluster.state import State
from services.topology.mesh import images, protocols
from services.topology.mesh.membership import is_in_mesh
from services.topology.mesh.meshes import mesh_of

VETTERS = (
    "podsinmesh",
    "meshversion",
    "applabel",
    "serviceportprefix",
    "serviceassociation",
    "danglingroutedestinationhost",
    "conflictingvirtualservicehost",
)
_CONFLICTS = "conflictingvirtualservicehost"
_OF_FINDINGS = {
    "serviceportprefix": ("missing-service-port-prefix", frozenset({"KIA0601", "KIA0602"})),
    "danglingroutedestinationhost": ("dangling-route-destination", frozenset({"KIA1101"})),
    _CONFLICTS: ("host-in-multiple-vs", frozenset({"IST0109", "KIA1106"})),
}
"""Vetters whose notes are findings: the note's type, and the codes of the findings."""
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
    codes: tuple[str, ...] = ()
    """Of the finding that the note tells again."""

    def as_json(self) -> dict[str, Any]:
        key = self.object
        about = {"kind": key.kind, "namespace": key.namespace, "name": key.name} if key else None
        return {
            "vetter": self.vetter,
            "type": self.type,
            "level": self.level.value,
            "object": about,
            "text": self.text,
            "codes": list(self.codes),
        }


def notes(state: State, findings: Iterable[Finding]) -> list[Note]:
    """The notes of all vetters, in their order; `findings` are those of the cluster's analysis."""
    mesh = mesh_of(state)
    system_spaces = {mesh.root_namespace, mesh.system_namespace, *_KUBERNETES_NAMESPACES}
    alive = [pod for pod in state.all(kinds.POD) if not pod.has_ended]
    user = [pod for pod in alive if pod.namespace not in system_spaces]
    meshed = [pod for pod in user if is_in_mesh(pod)]
    counts = {
        "user-pod-count": f"{len(meshed)} of {len(user)} user pods are in the mesh",
        "system-pod-count": f"{len(alive) - len(user)} pods belong to the system's namespaces",
    }
    workloads: _Workloads = defaultdict(list)
    for pod in meshed:
        workloads[pod.owner or pod.key].append(pod)
    found = [
        *(Note("podsinmesh", name, Level.INFO, None, told) for name, told in counts.items()),
        *_mesh_versions(state, workloads),
        *_app_labels(workloads),
        *_associations(state, workloads),
        *_told_again(findings),
    ]
    return sorted(found, key=lambda note: VETTERS.index(note.vetter))


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


_Workloads = dict[Key, list[Pod]]
"""Pods in the mesh by the workload that made them."""


def _mesh_versions(state: State, workloads: _Workloads) -> Iterator[Note]:
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
    for owner, group in sorted(workloads.items()):
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


def _app_labels(workloads: _Workloads) -> Iterator[Note]:
    for owner, group in sorted(workloads.items()):
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


def _associations(state: State, workloads: _Workloads) -> Iterator[Note]:
    for owner, group in sorted(workloads.items()):
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


def _told_again(findings: Iterable[Finding]) -> Iterator[Note]:
    """The notes of the vetters whose mistakes the rules find, one for each thing that is wrong."""
    before: set[tuple[str, str]] = set()
    for finding in sorted(findings, key=lambda finding: (finding.object, finding.path)):
        for vetter, (type_, codes) in _OF_FINDINGS.items():
            # Both ends of a conflict are told the same.
            about = "" if vetter == _CONFLICTS else str(finding.object)
            if codes.isdisjoint(finding.codes) or (about, finding.message) in before:
                continue
            before.add((about, finding.message))
            text = f"{finding.object}: {finding.message}"
            yield Note(vetter, type_, finding.level, finding.object, text, finding.codes)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
