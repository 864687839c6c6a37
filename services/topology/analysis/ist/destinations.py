"""What a host means to istioctl: a Service, or ServiceEntries, as seen from a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.topology.analysis.ist.specs import labels, parts
from services.topology.analysis.lenses import Lens
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.objects import Config, Labels

_EXPORT_TO = "networking.istio.io/exportTo"


@dataclass(frozen=True, slots=True)
class Destination:
    """What traffic to a host can reach."""

    ports: frozenset[int]
    selector: Labels
    """A ServiceEntry's own selector; empty for a Service."""


def destination(
    lens: Lens, host: str, namespace: str, *, export_to: list[str]
) -> Destination | None:
    """What `host` means to an object of `namespace` that is exported to these; None if nothing.

    Several ServiceEntries of one host count together; istioctl takes one of them.
    """
    seen_by = {hosts.EVERYWHERE}
    seen_by |= {namespace if name == "." else name for name in export_to} or {namespace}
    name = hosts.expanded(host, namespace)
    found = hosts.service_of(name) if name.endswith(f".svc.{hosts.DOMAIN}") else None
    if found is not None and name.count(".") == 4:
        service = lens.service(*found)
        if service is not None:
            exported = service.annotations.get(_EXPORT_TO, "")
            names = [part.strip() for part in exported.split(",") if part.strip()]
            if hosts.scopes(names, service.namespace) & seen_by:
                return Destination(frozenset(port.number for port in service.ports), {})
    exact = [
        entry
        for entry in lens.tagged(kinds.SERVICE_ENTRY, tags.host(name))
        if _scopes(entry) & seen_by
    ]
    if exact:
        return _of(exact)
    wide = [
        entry
        for entry in lens.tagged(kinds.SERVICE_ENTRY, tags.WILDCARD)
        if _scopes(entry) & {hosts.EVERYWHERE, namespace} and _is_covered(entry, host)
    ]
    return _of(wide[:1]) if wide else None


def _scopes(entry: Config) -> frozenset[str]:
    return hosts.scopes(tags.texts(entry.spec, "exportTo"), entry.namespace)


def _is_covered(entry: Config, host: str) -> bool:
    bare = host.removeprefix("*")
    patterns = (name for name in tags.texts(entry.spec, "hosts") if name.startswith("*"))
    return any(bare.endswith(pattern[1:]) for pattern in patterns)


def _of(entries: list[Config]) -> Destination:
    selector: dict[str, str] = {}
    for entry in entries:
        selector |= labels(entry.spec, "workloadSelector", "labels")
    return Destination(frozenset(p for entry in entries for p in _ports(entry)), selector)


def _ports(entry: Config) -> Iterator[int]:
    for _, port in parts(entry.spec, "ports"):
        if isinstance(port.get("number"), int):
            yield port["number"]
