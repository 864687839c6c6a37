"""How one workload stands in the mesh: who speaks mutual TLS for it, and who may call it.

Pods say how a workload runs; labels say it only for one that has none. PeerAuthentications mean
nothing to a gateway, whose listeners decide, and ambient knows no DISABLE: the ztunnel then accepts
plain text beside its own tunnel.
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
    is_captured,
    is_gateway,
    is_waypoint,
    is_ztunnel,
    wants_ambient,
    wants_sidecar,
)
from services.topology.mesh.security import Mode, Mtls, action_of, policies_for, workload_mtls

_OVER = ("Succeeded", "Failed")


class How(StrEnum):
    """What brings a workload into the mesh."""

    SIDECAR = "sidecar"
    AMBIENT = "ambient"
    GATEWAY = "gateway"
    WAYPOINT = "waypoint"
    NONE = "none"


class Access(StrEnum):
    """What happens to a request that no policy speaks of."""

    OPEN = "open"
    DENIED = "denied"
    """An ALLOW policy means the workload, so what none allows is refused."""


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
    found = [_One(state, root, runs) for runs in _workloads(state)]
    ztunnel = _version(p for p in state.all(kinds.POD) if is_ztunnel(p))
    for one in sorted(found, key=lambda one: (one.runs.namespace, one.runs.name, one.runs.key)):
        yield one.posture(ztunnel)


def _workloads(state: State) -> Iterator[Runs]:
    yield from state.workloads()
    for pod in state.all(kinds.POD):
        if pod.phase not in _OVER and (pod.owner is None or pod.owner.kind == "/Node"):
            yield pod


@dataclass(frozen=True, slots=True)
class _One:
    state: State
    root: str
    runs: Runs

    def posture(self, ztunnel: str) -> Posture:
        pods = self._pods()
        how = self._how(pods)
        meshed = sum(_is_meshed(pod, how) for pod in pods)
        is_in = how is not How.NONE
        policies = sorted(self._policies(), key=lambda p: p.key) if is_in else []
        return Posture(
            object=self.runs.key,
            how=how,
            pods=len(pods),
            meshed_pods=meshed,
            mtls=self._mtls(how),
            policies=tuple((action_of(policy), policy.key) for policy in policies),
            access=_access(policies),
            proxy_version=ztunnel if how is How.AMBIENT else _version(pods or [self.runs]),
        )

    def _pods(self) -> Sequence[Pod]:
        if isinstance(self.runs, Pod):
            return [self.runs]
        return [p for p in self.state.pods_of(self.runs.key) if p.phase not in _OVER]

    def _how(self, pods: Sequence[Pod]) -> How:
        forms: Sequence[Runs] = pods or [self.runs]
        if is_waypoint(self.runs.pod_labels):
            return How.WAYPOINT
        if any(is_gateway(form) for form in forms):
            return How.GATEWAY
        if is_ztunnel(self.runs):
            return How.NONE
        if pods:
            if any(pod.has_proxy for pod in pods):
                return How.SIDECAR
            return How.AMBIENT if any(is_captured(pod) for pod in pods) else How.NONE
        space = self.state.get(kinds.NAMESPACE, "", self.runs.namespace)
        labels: Labels = space.labels if space is not None else {}
        if wants_sidecar(labels, self.runs):
            return How.SIDECAR
        return How.AMBIENT if wants_ambient(labels, self.runs.pod_labels) else How.NONE

    def _mtls(self, how: How) -> Mtls:
        match how:
            case How.NONE:
                return Mtls(Mode.NONE)
            case How.GATEWAY:
                return Mtls(Mode.LISTENER)
            case How.WAYPOINT:
                # It listens inside the tunnel alone.
                return Mtls(Mode.STRICT)
        found = workload_mtls(self.state, self.runs.namespace, self.runs.pod_labels, root=self.root)
        if how is How.AMBIENT:
            ports = tuple((port, _tunnelled(mode)) for port, mode in found.ports)
            found = Mtls(_tunnelled(found.mode), found.source, ports)
        return found

    def _policies(self) -> Iterable[Config]:
        return policies_for(self.state, self.runs.namespace, self.runs.pod_labels, root=self.root)


def _is_meshed(pod: Pod, how: How) -> bool:
    return how is not How.NONE and (pod.has_proxy or is_captured(pod))


def _tunnelled(mode: Mode) -> Mode:
    return Mode.PERMISSIVE if mode is Mode.DISABLE else mode


def _access(policies: Iterable[Config]) -> Access:
    allowing = [policy for policy in policies if action_of(policy) == "ALLOW"]
    allows_all = any(
        not any(rule.values())
        for p in allowing
        for rule in p.spec.get("rules") or ()
        if _rule(rule)
    )
    return Access.DENIED if allowing and not allows_all else Access.OPEN


def _rule(rule: object) -> bool:
    return isinstance(rule, Mapping)


def _version(forms: Iterable[Runs]) -> str:
    """The versions that run, `1.30.2, 1.31.0` during a rollout."""
    return ", ".join(sorted({images.proxy_version(form) for form in forms} - {""}))
