"""Which of Istio's security policies hold for a workload: mutual TLS and authorization.

The functions ask whatever answers like a `State`, so that rules (a `Lens`, which records what was
looked at) and reports (a `State`) read the same text.

PeerAuthentication: the workload's goes before the namespace's before the mesh's; of several of one
scope the oldest holds; UNSET means the next wider one; Istio's default is PERMISSIVE. One with a
selector in the root namespace means no workload, as istiod has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from services.topology.cluster import forms, kinds, tags
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.cluster.state import matches
from services.topology.mesh.membership import GATEWAY_NAME
from services.topology.mesh.registry import Reads


class Mode(StrEnum):
    """Of mutual TLS, as a server accepts it."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"
    UNSET = "UNSET"
    NONE = "none"
    """Nothing in front of the workload could speak it."""
    LISTENER = "listener"
    """A gateway's: what its listeners say; PeerAuthentications mean nothing to it."""


_SAID = (Mode.STRICT, Mode.PERMISSIVE, Mode.DISABLE)


@dataclass(frozen=True, slots=True)
class Mtls:
    """What holds for one workload. `source` is the object that says so; None for the default."""

    mode: Mode
    source: Key | None = None
    ports: tuple[tuple[int, Mode], ...] = ()
    """Ports of the workload (not of its Services) for which something else holds."""


def selector_of(config: Config) -> Labels:
    """The labels by which a policy, a Sidecar or another object of the mesh chooses workloads."""
    spec = config.spec
    found = forms.mapping(spec.get("selector") or spec.get("workloadSelector"))
    if config.key.kind == kinds.GATEWAY:
        return found
    return forms.mapping(found.get("matchLabels") or found.get("labels"))


def targets_of(config: Config) -> list[Mapping[str, Any]]:
    """The objects that a policy is attached to by `targetRefs`."""
    return forms.mappings([config.spec.get("targetRef")]) + forms.mappings(
        config.spec.get("targetRefs")
    )


# --- mutual TLS -----------------------------------------------------------------------------------


def mode_of(config: Config | None) -> Mode:
    """What a PeerAuthentication says itself."""
    mode = forms.mapping(config.spec.get("mtls") if config is not None else None).get("mode")
    return Mode(mode) if mode in _SAID else Mode.UNSET


def widest(reads: Reads, namespace: str) -> Config | None:
    """The PeerAuthentication for a whole namespace; in the root namespace, for the mesh."""
    whole = [p for p in reads.all(kinds.PEER_AUTHENTICATION, namespace) if not selector_of(p)]
    return min(whole, key=_age, default=None)


def mesh_mtls(reads: Reads, root: str) -> Mtls:
    """What holds where nothing narrower says anything."""
    policy = widest(reads, root)
    mode = mode_of(policy)
    if policy is None or mode is Mode.UNSET:
        return Mtls(Mode.PERMISSIVE)
    return Mtls(mode, policy.key)


def namespace_mtls(reads: Reads, namespace: str, root: str) -> Mtls:
    """What holds for a namespace's workloads that no narrower policy means."""
    if namespace != root:
        policy = widest(reads, namespace)
        mode = mode_of(policy)
        if policy is not None and mode is not Mode.UNSET:
            return Mtls(mode, policy.key)
    return mesh_mtls(reads, root)


def workload_mtls(reads: Reads, namespace: str, labels: Labels, *, root: str) -> Mtls:
    """What holds for pods with these labels."""
    found = namespace_mtls(reads, namespace, root)
    if namespace == root:
        return found
    own = [
        policy
        for policy in reads.all(kinds.PEER_AUTHENTICATION, namespace)
        if (selector := selector_of(policy)) and matches(selector, labels)
    ]
    policy = min(own, key=_age, default=None)
    if policy is None:
        return found
    mode = mode_of(policy)
    if mode is not Mode.UNSET:
        found = Mtls(mode, policy.key)
    ports = []
    for port, settings in forms.mapping(policy.spec.get("portLevelMtls")).items():
        said = forms.mapping(settings).get("mode")
        if said in _SAID and said != found.mode and str(port).isdecimal():
            ports.append((int(port), Mode(said)))
    return Mtls(found.mode, found.source, tuple(sorted(ports)))


def _age(config: Config) -> tuple[str, str]:
    return config.created, config.name


# --- authorization --------------------------------------------------------------------------------


def action_of(policy: Config) -> str:
    return str(policy.spec.get("action") or "ALLOW")


def policies_for(reads: Reads, namespace: str, labels: Labels, *, root: str) -> Iterator[Config]:
    """The AuthorizationPolicies that hold for pods with these labels."""
    choice = (tags.WHOLE, tags.ATTACHED, *(tags.label(*pair) for pair in labels.items()))
    for space in dict.fromkeys((root, namespace)):
        for tag in choice:
            for policy in reads.tagged(kinds.AUTHORIZATION_POLICY, tag, space):
                if selects(reads, policy, namespace, labels):
                    yield policy


def selects(reads: Reads, policy: Config, namespace: str, labels: Labels) -> bool:
    """Whether a policy of `namespace` or of the root namespace selects pods with these labels."""
    targets = targets_of(policy)
    if not targets:
        return matches(selector_of(policy), labels)
    if policy.namespace != namespace:
        return False
    return any(_is_target(reads, target, namespace, labels) for target in targets)


def _is_target(reads: Reads, target: Mapping[str, Any], namespace: str, labels: Labels) -> bool:
    name = str(target.get("name") or "")
    if target.get("kind") == "Gateway":
        return labels.get(GATEWAY_NAME) == name
    if target.get("kind") != "Service":
        return False
    service = reads.get(kinds.SERVICE, namespace, name)
    return service is not None and bool(service.selector) and matches(service.selector, labels)
