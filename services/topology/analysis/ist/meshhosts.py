"""VirtualServices of the mesh that claim the same host (IST0109)."""

from __future__ import annotations

from collections.abc import Iterator

from services.topology.analysis.findings import Finding, Level, listed
from services.topology.analysis.lenses import Lens
from services.topology.analysis.rules import Entry, Rule
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config

CONFLICTING_HOSTS = Entry(
    code="IST0109",
    name="ConflictingMeshGatewayVirtualServiceHosts",
    level=Level.ERROR,
    cause="Several VirtualServices route the same host in the mesh. Sidecars use one of them, and "
    "nothing says which.",
    remedy="Put all routes of the host into one VirtualService, or export them to different "
    "namespaces.",
)


def _conflicts(lens: Lens, config: Config) -> Iterator[Finding]:
    if not _is_of_mesh(config):
        return
    names = _hosts(config)
    for index, name in enumerate(names):
        others = {other.key for other in _rivals(lens, config, name)}
        if name in names[:index]:
            others.add(config.key)
        if others:
            told = listed(f"{key.namespace}/{key.name}" for key in others)
            message = f"Host {name} is also routed by: {told}."
            yield CONFLICTING_HOSTS.on(config.key, message, f"spec.hosts[{index}]")


def _rivals(lens: Lens, config: Config, name: str) -> Iterator[Config]:
    """The other VirtualServices that a sidecar could use for the host instead.

    Two that are exported to everybody are rivals for the same host only; a wildcard and a host
    under it are told apart by Envoy. istioctl is stricter as soon as one has a scope of its own.
    """
    own = _scopes(config)
    for other in _candidates(lens, name, is_wide=hosts.EVERYWHERE in own):
        if other.key == config.key or not _is_of_mesh(other):
            continue
        scopes = _scopes(other)
        both_wide = hosts.EVERYWHERE in own and hosts.EVERYWHERE in scopes
        one_wide = hosts.EVERYWHERE in own or hosts.EVERYWHERE in scopes
        theirs = _hosts(other)
        if both_wide or not one_wide:
            if own & scopes and name in theirs:
                yield other
        elif any(hosts.overlap(name, host) for host in theirs):
            yield other


def _candidates(lens: Lens, name: str, *, is_wide: bool) -> Iterator[Config]:
    """All that may have the host or a wildcard over it, and some that do not."""
    if name.startswith("*") and not is_wide:
        yield from lens.all(kinds.VIRTUAL_SERVICE)
        return
    yield from lens.tagged(kinds.VIRTUAL_SERVICE, tags.host(name))
    yield from lens.tagged(kinds.VIRTUAL_SERVICE, tags.SCOPED if is_wide else tags.WILDCARD)


def _is_of_mesh(config: Config) -> bool:
    return hosts.MESH in hosts.gateways_of(config.spec)


def _scopes(config: Config) -> frozenset[str]:
    return hosts.scopes(tags.texts(config.spec, "exportTo"), config.namespace)


def _hosts(config: Config) -> list[str]:
    return [hosts.expanded(h, config.namespace) for h in tags.texts(config.spec, "hosts")]


ENTRIES = (CONFLICTING_HOSTS,)
RULES = (Rule(codes=("IST0109",), kinds=(kinds.VIRTUAL_SERVICE,), check=_conflicts),)
