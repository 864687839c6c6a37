"""Whether a host is one that the mesh knows: a Service, or a host of a ServiceEntry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.topology.analysis.lenses import Lens
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config, Service

_MESH_WIDE = {"*", "*.local", "*.cluster.local", f"*.svc.{hosts.DOMAIN}"}


def is_mesh_wide(host: str) -> bool:
    """Whether a host of a DestinationRule means all Services."""
    return host in _MESH_WIDE


def whole_namespace(host: str) -> str | None:
    """The namespace all whose Services the host means (`*.prod.svc.cluster.local`)."""
    parts = host.split(".", 3)
    is_one = parts[0] == "*" and parts[2:] == ["svc", hosts.DOMAIN]
    return parts[1] if is_one else None


def service_at(lens: Lens, host: str, namespace: str) -> Service | None:
    """The Service that a host means as seen from a namespace."""
    place = hosts.service_of(hosts.expanded(host, namespace))
    return lens.service(*place) if place is not None else None


def is_exported(config: Config, namespace: str) -> bool:
    """Whether a namespace sees an object, by its `exportTo`."""
    scopes = hosts.scopes(tags.texts(config.spec, "exportTo"), config.namespace)
    return hosts.EVERYWHERE in scopes or namespace in scopes


def is_seen_together(one: Config, other: Config) -> bool:
    """Whether some namespace sees both objects."""
    scopes = [hosts.scopes(tags.texts(o.spec, "exportTo"), o.namespace) for o in (one, other)]
    return any(hosts.EVERYWHERE in scope for scope in scopes) or bool(scopes[0] & scopes[1])


def entries_for(lens: Lens, host: str, namespace: str) -> Iterator[Config]:
    """ServiceEntries that have a host, also by a wildcard, as a namespace sees them."""
    for tag in (tags.host(host), tags.WILDCARD):
        for entry in lens.tagged(kinds.SERVICE_ENTRY, tag):
            if is_listed(host, tags.texts(entry.spec, "hosts")) and is_exported(entry, namespace):
                yield entry


def is_listed(host: str, listed: Iterable[str]) -> bool:
    """Whether one of the hosts, which may be wildcards, means this one."""
    return any(hosts.covers(one, host) for one in listed)


def is_known(lens: Lens, host: str, namespace: str) -> bool:
    """Whether the mesh's registry has a host."""
    name = hosts.expanded(host, namespace)
    if is_mesh_wide(name) or service_at(lens, name, namespace) is not None:
        return True
    space = whole_namespace(name)
    if space is not None and any(True for _ in lens.all(kinds.SERVICE, space)):
        return True
    if any(True for _ in entries_for(lens, name, namespace)):
        return True
    if not name.startswith("*"):
        return False
    # A wildcard is known where any host falls under it.
    return any(
        hosts.covers(name, listed)
        for entry in lens.all(kinds.SERVICE_ENTRY)
        for listed in tags.texts(entry.spec, "hosts")
    )
