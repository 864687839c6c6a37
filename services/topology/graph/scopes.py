"""Which workloads and services a configuration object acts on, by selector, namespace or target.

Narrower objects of some kinds (PeerAuthentication, Sidecar) take the place of wider ones. All of
them are listed still, since a person who looks for a workload's configuration wants both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from services.topology.cluster import kinds
from services.topology.cluster.forms import mapping
from services.topology.cluster.indices import EVERYWHERE, Selectors
from services.topology.cluster.objects import Config, Key, Labels
from services.topology.graph.ids import Name
from services.topology.mesh.membership import GATEWAY_NAME

POLICIES = (
    kinds.AUTHORIZATION_POLICY,
    kinds.PEER_AUTHENTICATION,
    kinds.REQUEST_AUTHENTICATION,
    kinds.TELEMETRY,
    kinds.WASM_PLUGIN,
    kinds.TRAFFIC_EXTENSION,
    kinds.PROXY_CONFIG,
)
_BY_WORKLOAD_SELECTOR = (kinds.SIDECAR, kinds.ENVOY_FILTER)
SCOPED = (*POLICIES, *_BY_WORKLOAD_SELECTOR, kinds.GATEWAY, kinds.K8S_GATEWAY)
_SELECT_FROM_ROOT = (
    kinds.AUTHORIZATION_POLICY,
    kinds.REQUEST_AUTHENTICATION,
    kinds.ENVOY_FILTER,
    kinds.WASM_PLUGIN,
    kinds.TRAFFIC_EXTENSION,
)
"""Kinds whose selector in the root namespace means workloads of all namespaces."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an object acts. Without selectors and services it is all workloads of `space`."""

    space: str
    """A namespace, or `*`."""
    selectors: tuple[Labels, ...] = ()
    services: tuple[Name, ...] = ()

    @property
    def is_wide(self) -> bool:
        return not self.selectors and not self.services


NOWHERE = Scope("", ({"": ""},))


def scope_of(config: Config, root: str) -> Scope:
    """The scope of an object of one of the `SCOPED` kinds."""
    kind, space, spec = config.key.kind, config.namespace, config.spec
    if kind == kinds.GATEWAY:
        selector = _labels(spec.get("selector"))
        return Scope(EVERYWHERE, (selector,)) if selector else NOWHERE
    if kind == kinds.K8S_GATEWAY:
        return Scope(space, ({GATEWAY_NAME: config.name},))
    targets = [*(spec.get("targetRefs") or ())]
    if isinstance(spec.get("targetRef"), dict):
        targets.append(spec["targetRef"])
    if targets:
        return _targeted(space, [target for target in targets if isinstance(target, dict)])
    if kind in _BY_WORKLOAD_SELECTOR:
        selector = _labels(mapping(spec.get("workloadSelector")).get("labels"))
    else:
        selector = _labels(mapping(spec.get("selector")).get("matchLabels"))
    is_everywhere = space == root and (not selector or kind in _SELECT_FROM_ROOT)
    return Scope(EVERYWHERE if is_everywhere else space, (selector,) if selector else ())


def _targeted(space: str, targets: list[Mapping[str, Any]]) -> Scope:
    selectors: list[Labels] = []
    services: list[Name] = []
    for target in targets:
        kind, name = target.get("kind"), str(target.get("name") or "")
        if kind == "Gateway":
            selectors.append({GATEWAY_NAME: name})
        elif kind in ("Service", "ServiceEntry"):
            services.append((str(target.get("namespace") or space), name))
    if not selectors and not services:
        return NOWHERE
    return Scope(space, tuple(selectors), tuple(services))


@dataclass(slots=True)
class Scopes:
    """All scopes, and the objects that act on something."""

    _known: dict[Key, Scope] = field(default_factory=dict)
    _wide: dict[str, set[Key]] = field(default_factory=dict)
    _selectors: Selectors[Key] = field(default_factory=Selectors)
    _services: dict[Name, set[Key]] = field(default_factory=dict)

    def put(self, key: Key, scope: Scope | None) -> list[Scope]:
        """Sets an object's scope, None forgets it; returns the scopes that this concerns, none
        when the object acts on the same as before."""
        before = self._known.pop(key, None)
        if scope is not None:
            self._known[key] = scope
        if before == scope:
            return []
        if before is not None:
            self._index(key, before, is_new=False)
        if scope is not None:
            self._index(key, scope, is_new=True)
        return [found for found in (before, scope) if found is not None]

    def _index(self, key: Key, scope: Scope, *, is_new: bool) -> None:
        self._selectors.put(scope.space, key, scope.selectors if is_new else ())
        sets: list[tuple[dict[Any, set[Key]], Any]] = [
            (self._services, service) for service in scope.services
        ]
        if scope.is_wide:
            sets.append((self._wide, scope.space))
        for index, place in sets:
            found = index.setdefault(place, set())
            if is_new:
                found.add(key)
            else:
                found.discard(key)
                if not found:
                    del index[place]

    def at(self, key: Key) -> Scope | None:
        return self._known.get(key)

    def on_workload(self, namespace: str, labels: Labels) -> Iterator[Key]:
        """Objects that act on a workload whose pods have these labels."""
        yield from self._wide.get(EVERYWHERE, ())
        yield from self._wide.get(namespace, ())
        yield from self._selectors.find(EVERYWHERE, labels)
        yield from self._selectors.find(namespace, labels)

    def gateways_on(self, namespace: str, labels: Labels) -> Iterator[Key]:
        """Gateways, of both APIs, that a workload serves."""
        for space in (EVERYWHERE, namespace):
            for key in self._selectors.find(space, labels):
                if key.kind in (kinds.GATEWAY, kinds.K8S_GATEWAY):
                    yield key

    def on_service(self, name: Name) -> Iterator[Key]:
        """Objects that target a service."""
        yield from self._services.get(name, ())


def _labels(value: Any) -> Labels:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
