"""How one workload stands in the mesh: its proxy, its mutual TLS, and which callers it lets in.

Pods say how a workload runs; labels say it only for one that has none. A gateway ignores
PeerAuthentications, for its listeners decide, and ambient knows no DISABLE: the ztunnel then
accepts plain text beside its own tunnel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.topology.cluster import kinds
from services.topology.cluster.objects import Config, Key, Labels, Pod, Runs
from services.topology.cluster.state import State
from services.topology.mesh import images
from services.topology.mesh.membership import (
    is_gateway,
    is_in_mesh,
    is_waypoint,
    is_ztunnel,
    wants_ambient,
    wants_sidecar,
)
from services.topology.mesh.security import Mode, Mtls, action_of, policies_for, workload_mtls


class How(StrEnum):
    """What brings a workload into the mesh."""

    SIDECAR = "sidecar"
    AMBIENT = "ambient"
    GATEWAY = "gateway"
    WAYPOINT = "waypoint"
    NONE = "none"


class Access(StrEnum):
    """What happens to a request that no policy is about."""

    OPEN = "open"
    DENIED = "denied"
    """An ALLOW policy selects the workload, so what none allows is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posture:
    """One workload's."""

    object: Key
    how: How
    pods: int
    meshed_pods: int
    """Of `pods`, those that are in the mesh."""
    mtls: Mtls
    policies: tuple[tuple[str, Key], ...]
    """Action (`ALLOW`, `DENY`, `CUSTOM`, `AUDIT`) and policy."""
    access: Access
    proxy_version: str
    """Of the sidecar, the gateway or the waypoint; of the ztunnel for ambient; "" when unknown."""


def postures(state: State, *, root: str) -> Iterator[Posture]:
    """Those of all workloads and of pods that belong to none, in order of namespace and name."""
    ztunnel = _version(p for p in state.all(kinds.POD) if is_ztunnel(p))
    for runs in sorted(_workloads(state), key=lambda one: (one.namespace, one.name, one.key)):
        yield _posture(state, root, runs, ztunnel=ztunnel)


def _workloads(state: State) -> Iterator[Runs]:
    yield from state.workloads()
    for pod in state.all(kinds.POD):
        if not pod.has_ended and (pod.owner is None or pod.owner.kind == "/Node"):
            yield pod


def _posture(state: State, root: str, runs: Runs, *, ztunnel: str) -> Posture:
    """One workload's; `ztunnel` is the version of the ztunnels."""
    pods = [runs] if isinstance(runs, Pod) else _pods(state, runs)
    how = _how(state, runs, pods)
    policies: list[Config] = []
    if how is not How.NONE:
        found = policies_for(state, runs.namespace, runs.pod_labels, root=root)
        policies = sorted(found, key=lambda policy: policy.key)
    return Posture(
        object=runs.key,
        how=how,
        pods=len(pods),
        meshed_pods=sum(how is not How.NONE and is_in_mesh(pod) for pod in pods),
        mtls=_mtls(state, runs, how, root=root),
        policies=tuple((action_of(policy), policy.key) for policy in policies),
        access=_access(policies),
        proxy_version=ztunnel if how is How.AMBIENT else _version(pods or [runs]),
    )


def _pods(state: State, runs: Runs) -> list[Pod]:
    return [pod for pod in state.pods_of(runs.key) if not pod.has_ended]


def _how(state: State, runs: Runs, pods: Sequence[Pod]) -> How:
    if is_waypoint(runs.pod_labels):
        return How.WAYPOINT
    if any(is_gateway(form) for form in (*pods, runs)):
        return How.GATEWAY
    if is_ztunnel(runs):
        return How.NONE
    if pods:
        meshed = [pod for pod in pods if is_in_mesh(pod)]
        if any(pod.has_proxy for pod in meshed):
            return How.SIDECAR
        return How.AMBIENT if meshed else How.NONE
    space = state.get(kinds.NAMESPACE, "", runs.namespace)
    labels: Labels = space.labels if space is not None else {}
    if wants_sidecar(labels, runs):
        return How.SIDECAR
    return How.AMBIENT if wants_ambient(labels, runs.pod_labels) else How.NONE


def _mtls(state: State, runs: Runs, how: How, *, root: str) -> Mtls:
    match how:
        case How.NONE:
            return Mtls(Mode.NONE)
        case How.GATEWAY:
            return Mtls(Mode.LISTENER)
        case How.WAYPOINT:
            # It listens inside the tunnel alone.
            return Mtls(Mode.STRICT)
    found = workload_mtls(state, runs.namespace, runs.pod_labels, root=root)
    if how is How.AMBIENT:
        ports = tuple((port, _tunnelled(mode)) for port, mode in found.ports)
        found = Mtls(_tunnelled(found.mode), found.source, ports)
    return found


def _tunnelled(mode: Mode) -> Mode:
    return Mode.PERMISSIVE if mode is Mode.DISABLE else mode


def _access(policies: Iterable[Config]) -> Access:
    allowing = [policy for policy in policies if action_of(policy) == "ALLOW"]
    allows_all = any(
        not any(rule.values())
        for p in allowing
        for rule in p.spec.get("rules") or ()
        if isinstance(rule, Mapping)
    )
    return Access.DENIED if allowing and not allows_all else Access.OPEN


def _version(forms: Iterable[Runs]) -> str:
    """The versions that run, `1.30.2, 1.31.0` during a rollout."""
    return ", ".join(sorted({images.proxy_version(form) for form in forms} - {""}))
