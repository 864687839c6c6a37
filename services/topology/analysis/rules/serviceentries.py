"""ServiceEntries without addresses or for one host, and WorkloadGroups with the same labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.topology.analysis.catalog import Rule, tell, those
from services.topology.analysis.findings import Finding
from services.topology.analysis.lenses import Lens
from services.topology.cluster import hosts, kinds, tags
from services.topology.cluster.forms import labels, number, part, parts, text, texts
from services.topology.cluster.objects import Config
from services.topology.mesh.registry import scopes_of


def _addresses(lens: Lens, entry: Config) -> Iterator[Finding]:
    if entry.spec.get("addresses") or entry.addresses:
        return
    for index, port in parts(entry.spec, "ports"):
        if text(port, "protocol").upper() in ("", "TCP") and not _allocates(lens):
            message = f"Port {text(port, 'number')} is TCP, and there are no addresses."
            yield tell("IST0134", entry.key, message, f"spec.ports[{index}].protocol")


def _allocates(lens: Lens) -> bool:
    """Whether the mesh's proxies are told to find addresses for such entries."""
    settings = part(lens.mesh().config, "defaultConfig", "proxyMetadata")
    return text(settings, "ISTIO_META_DNS_CAPTURE") == "true" and "true" in (
        text(settings, "ISTIO_META_DNS_AUTO_ALLOCATE"),
        text(settings, "PILOT_ENABLE_IP_AUTOALLOCATE"),
    )


# --- several for one host -------------------------------------------------------------------------


def _several(lens: Lens, entry: Config) -> Iterator[Finding]:
    for at, name in enumerate(texts(entry.spec, "hosts")):
        tag = tags.host(hosts.expanded(name, entry.namespace))
        found = sorted(lens.tagged(kinds.SERVICE_ENTRY, tag), key=lambda one: one.key)
        same_name = [one for one in found if name in texts(one.spec, "hosts")]
        others = [one for one in found if one.key != entry.key and _is_seen_with(entry, one)]
        for index, port in parts(entry.spec, "ports"):
            of = number(port, "number")
            here = _protocols((entry,), of)
            there = _protocols(others, of)
            by_scope = _disagreeing(entry, same_name, of)
            codes = those(IST0177=bool(by_scope), KIA1212=bool(there - here))
            if codes:
                spoken = ", ".join(sorted(by_scope or here | there))
                message = f"Host {name}, port {of} has the protocols: {spoken}."
                path = f"spec.ports[{index}].protocol"
                yield tell("entries-disagree", entry.key, message, path, codes=codes)
            for other in others:
                if here & _protocols((other,), of):
                    message = f"{other.key} is for port {of} of {name}, too."
                    yield tell("KIA1211", entry.key, message, f"spec.hosts[{at}]")


def _is_seen_with(one: Config, other: Config) -> bool:
    """Whether some namespace sees both objects."""
    scopes = scopes_of(one), scopes_of(other)
    return hosts.EVERYWHERE in scopes[0] | scopes[1] or bool(scopes[0] & scopes[1])


def _protocols(entries: Iterable[Config], of: int) -> set[str]:
    """The protocols that entries name for a port; TCP is what none means."""
    return {
        (text(port, "protocol") or "TCP").upper()
        for entry in entries
        for _, port in parts(entry.spec, "ports")
        if number(port, "number") == of
    }


def _disagreeing(entry: Config, rivals: list[Config], of: int) -> set[str]:
    """All protocols that a proxy in one of the entry's namespaces could take for the port, if they
    are several, as istioctl looks for them."""
    own = scopes_of(entry)
    for scope in sorted({scope for rival in rivals for scope in scopes_of(rival)}):
        if own & {scope, hosts.EVERYWHERE}:
            seen = (one for one in rivals if scopes_of(one) & {scope, hosts.EVERYWHERE})
            protocols = _protocols(seen, of)
            if len(protocols) > 1:
                return protocols
    return set()


# --- WorkloadGroups -------------------------------------------------------------------------------


def _same_labels(lens: Lens, group: Config) -> Iterator[Finding]:
    own = labels(group.spec, "metadata", "labels")
    if not own:
        return

    def clashes(other: Config) -> bool:
        return labels(other.spec, "metadata", "labels") == own

    for other in lens.peers(group, clashes, group.namespace):
        for one, two in ((group, other), (other, group)):
            yield tell(
                "KIA1702", one.key, f"{two.key} has the same labels.", "spec.metadata.labels"
            )


_OWN = (kinds.SERVICE_ENTRY,)
RULES = (
    Rule(finds=("IST0134",), kinds=_OWN, check=_addresses),
    Rule(finds=("entries-disagree", "KIA1211"), kinds=_OWN, check=_several),
    Rule(finds=("KIA1702",), kinds=(kinds.WORKLOAD_GROUP,), check=_same_labels),
)
