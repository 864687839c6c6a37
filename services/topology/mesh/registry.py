"""The one look-up of Services and ServiceEntries by the name of a host.

The functions ask whatever answers like a `State`, so that rules (a `Lens`, which records what was
looked at), paths and the graph (a `State`) get the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from services.topology.cluster import forms, hosts, kinds, tags
from services.topology.cluster.objects import Config, Service

_EXPORT_TO = "networking.istio.io/exportTo"


class Reads(Protocol):
    """A `State`, or a `Lens` on one."""

    def get(self, kind: str, namespace: str, name: str) -> Any: ...

    def all(self, kind: str, namespace: str | None = None) -> Iterator[Any]: ...

    def tagged(self, kind: str, tag: str, namespace: str | None = None) -> Iterator[Any]: ...


@dataclass(frozen=True, slots=True)
class Destination:
    """What traffic to a host can reach: a Service, or ServiceEntries, the oldest first."""

    service: Service | None = None
    entries: tuple[Config, ...] = ()

    @property
    def ports(self) -> frozenset[int]:
        own = self.service.ports if self.service is not None else ()
        listed = (p for entry in self.entries for _, p in forms.parts(entry.spec, "ports"))
        return frozenset(
            (*(port.number for port in own), *(forms.number(p, "number") for p in listed))
        )

    @property
    def selector(self) -> dict[str, str]:
        """The ServiceEntries' own selector; empty for a Service."""
        found: dict[str, str] = {}
        for entry in self.entries:
            found |= forms.labels(entry.spec, "workloadSelector", "labels")
        return found


def destination(
    reads: Reads, host: str, namespace: str, *, export_to: Iterable[str] = ()
) -> Destination | None:
    """What `host` means to an object of `namespace`; None where the mesh does not know it.

    A Service goes before ServiceEntries, and of these the narrowest host counts. `export_to` are
    the namespaces that the object itself is exported to: istioctl looks up hosts as these see
    them, but for wildcards.
    """
    name = hosts.expanded(host, namespace)
    seen_by = {hosts.EVERYWHERE}
    seen_by |= {namespace if one == "." else one for one in export_to} or {namespace}
    service = service_at(reads, name)
    if service is not None and _exported(service) & seen_by:
        return Destination(service)
    exact, *wider = hosts.patterns(name)
    entries = _entries(reads, exact, seen_by)
    for pattern in wider:
        entries = entries or _entries(reads, pattern, {hosts.EVERYWHERE, namespace})
    return Destination(entries=entries) if entries else None


def service_at(reads: Reads, name: str) -> Service | None:
    """The Service of a full name, exported or not."""
    place = hosts.service_of(name)
    found: Service | None = reads.get(kinds.SERVICE, *place) if place is not None else None
    return found if found is not None and found.host == name else None


def entries_of(reads: Reads, name: str) -> tuple[Config, ...]:
    """The ServiceEntries of the narrowest pattern that covers a full name, exported or not."""
    for pattern in hosts.patterns(name):
        found = _entries(reads, pattern, None)
        if found:
            return found
    return ()


def is_visible(config: Config, namespace: str) -> bool:
    """Whether a namespace sees an object, by its `exportTo`."""
    return bool(scopes_of(config) & {hosts.EVERYWHERE, namespace})


def scopes_of(config: Config) -> frozenset[str]:
    """The namespaces that see an object."""
    return hosts.seen_from(config.spec, config.namespace)


def _entries(reads: Reads, pattern: str, seen_by: set[str] | None) -> tuple[Config, ...]:
    found = reads.tagged(kinds.SERVICE_ENTRY, tags.host(pattern))
    visible = (entry for entry in found if seen_by is None or scopes_of(entry) & seen_by)
    return tuple(sorted(visible, key=lambda entry: (entry.created, entry.key)))


def _exported(service: Service) -> frozenset[str]:
    written = service.annotations.get(_EXPORT_TO, "").split(",")
    return hosts.scopes([one.strip() for one in written if one.strip()], service.namespace)
